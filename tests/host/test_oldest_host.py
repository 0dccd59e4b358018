"""The oldest host that we promise: the pack loads there and upscales a picture."""

import os
import re
from pathlib import Path

import pytest
from adaptivesr.tools.env import environment as env
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.small_models.tiny import fetch_pixels, one_step_prompt, put_tiny_models

ROOT = Path(__file__).resolve().parents[2]
OLDEST = os.environ.get("ADAPTIVESR_OLDEST_HOST", "")
ODD_NAME = "ComfyUI-AdaptiveSR.v2"  # a dash and a dot: neither is allowed in a package name


@pytest.mark.skipif(not OLDEST, reason="ADAPTIVESR_OLDEST_HOST does not point at a ComfyUI")
def test_a_picture_is_upscaled_on_the_oldest_host_from_a_folder_with_a_dash_and_a_dot(photo):
    with (
        devserver.running_host(Path(OLDEST), pack_names=[ODD_NAME], prepare=put_tiny_models, quiet=True) as running,
        running.client() as client,
    ):
        assert client.system_stats()["system"]["comfyui_version"] == env.OLDEST_HOST.version
        run = client.run(one_step_prompt(client, client.upload_image(photo(24, 16))))
        assert run.succeeded, run.error
        told = [event.data for event in run.events if event.kind == "adaptivesr.regions"]
        assert [told[0]["phase"], told[-1]["phase"]] == ["start", "end"]
        assert "adaptivesr_regions" in run.outputs["upscale"]
        assert fetch_pixels(client, run.outputs["save"]["images"][0]).shape == (64, 96, 3)


def test_the_metadata_asks_for_the_oldest_host():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = re.search(r'^requires-comfyui = ">=([\d.]+)"$', text, re.MULTILINE)
    assert required and required.group(1) == env.OLDEST_HOST.version
