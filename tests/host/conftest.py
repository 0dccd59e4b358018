"""Fixtures of the tests that need a ComfyUI: one server for the whole session, and the host inside this process."""

import asyncio
import importlib
import json
import os
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.small_models.stand_ins import put_stand_ins
from adaptivesr.tools.small_models.tiny import put_tiny_models
from PIL import Image

HERE = Path(__file__).resolve().parent
API_WORKFLOWS = sorted((HERE.parents[1] / "workflows" / "api").glob("*.json"))
HOST = os.environ.get("ADAPTIVESR_HOST", "")
os.environ.setdefault("ADAPTIVESR_FOLDERS", tempfile.gettempdir())  # tests train on pictures in folders of their own
ODD_NAME = "ComfyUI-AdaptiveSR.v2"  # a dash and a dot: neither is allowed in a package name


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.host)
            if not HOST:
                item.add_marker(pytest.mark.skip(reason="ADAPTIVESR_HOST does not point at a ComfyUI"))


@pytest.fixture(scope="session")
def server():
    """A running host of the pinned version with the pack, the tiny models, and all files that shipped workflows name."""

    def prepare(base: Path) -> None:
        put_tiny_models(base)
        put_stand_ins((json.loads(file.read_text(encoding="utf-8")) for file in API_WORKFLOWS), base)
        Image.new("RGB", (48, 32), (200, 120, 40)).save(base / "input" / "example.png")  # what shipped workflows load
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")  # no welcome dialog over the canvas

    with devserver.running_host(Path(HOST), prepare=prepare, quiet=True) as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as connected:
        yield connected


@pytest.fixture
def photo(tmp_path):
    """A function that makes a picture file of random pixels of a size."""

    def make(width: int, height: int, name: str = "photo.png") -> Path:
        pixels = np.random.default_rng(width * 10007 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    return make


@dataclass(frozen=True)
class HostInProcess:
    """The host imported into this process, with the pack loaded through its own loader."""

    nodes: types.ModuleType
    pack: str  # the name under which the host imported the pack

    def node(self, node_id: str) -> Any:
        """A node class by its id."""
        return self.nodes.NODE_CLASS_MAPPINGS[node_id]

    def module(self, name: str) -> types.ModuleType:
        """A module of the pack as the host knows it, e.g. "host.resshift.loading"."""
        return importlib.import_module(f"{self.pack}.{name}")


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    """The host in this process; its arguments are set before anything of it looks at the device."""
    base = tmp_path_factory.mktemp("comfy")
    for folder in ("models", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    put_tiny_models(base)
    devserver.link_pack(base / "custom_nodes", ODD_NAME)
    if HOST not in sys.path:
        sys.path.insert(0, HOST)
    args = importlib.import_module("comfy.cli_args").args
    args.cpu = not devserver.has_accelerator()
    args.base_directory = str(base)
    args.database_url = "sqlite:///:memory:"
    args.disable_api_nodes = True
    nodes = importlib.import_module("nodes")
    path = str(base / "custom_nodes" / ODD_NAME)
    assert asyncio.run(nodes.load_custom_node(path)), "the host could not load the pack; its log says why"
    return HostInProcess(nodes, path.replace(".", "_x_"))
