"""The pack through the host's own loader, from a folder named with a dash and a dot."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_host_loads_the_pack_from_a_folder_with_a_dash_and_a_dot(comfy):
    assert "ComfyUI-AdaptiveSR_x_v2" in comfy.pack
    ours = [name for name in comfy.nodes.NODE_CLASS_MAPPINGS if name.startswith("AdaptiveSR")]
    assert "AdaptiveSROneStepDistilledSR" in ours
    assert comfy.node("AdaptiveSROneStepDistilledSR").__module__.startswith(comfy.pack + ".")


def test_the_host_still_has_its_own_nodes_module(comfy):
    assert not Path(comfy.nodes.__file__).is_relative_to(ROOT)
    assert comfy.nodes.NODE_CLASS_MAPPINGS["LoadImage"].__module__ == "nodes"


def test_the_web_folder_is_declared_once():
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not re.search(r"^web\s*=", metadata, re.MULTILINE)  # with WEB_DIRECTORY it would load every script twice
