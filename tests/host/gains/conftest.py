"""Small files of AdaDiffSR's parts in the host's folder, the nodes that take them, and MODELs whose conditions hold an LR image."""

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from adaptivesr.tools.small_models.gain_models import METRICS, save_gain_models, small_gain_models


@pytest.fixture(scope="session")
def parts():
    """The function that makes a file's tensors."""
    return small_gain_models


@pytest.fixture(scope="session")
def metrics():
    """What the gains of the files are of."""
    return METRICS


@pytest.fixture(scope="session")
def pack(comfy):
    """The pack's modules by name, as the host knows them."""
    return comfy.module


@pytest.fixture(scope="session")
def folder(comfy):
    """The host's folder for these files."""
    import folder_paths

    path = os.path.join(folder_paths.models_dir, "adaptivesr", "gain_models")
    os.makedirs(path, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def host(comfy):
    """The pack's module behind the loader."""
    return comfy.module("host.gains.models")


@pytest.fixture
def put(folder):
    """Writes a file with metadata for a base (identity, label), which the loader then lists."""
    import folder_paths

    def write(base, tensors=None, name="small_gain_models.safetensors", metrics=METRICS, **facts):
        save_gain_models(os.path.join(folder, name), base, tensors or small_gain_models(), metrics, **facts)
        folder_paths.filename_list_cache.clear()
        return name

    return write


EMBEDDED = "embedded: teacher, 15 steps"
SETTINGS = {
    "seed": 5, "steps": 8, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0, "tile_size": 64,
    "overlap": 0, "merge_mode": "final",
}  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A MODEL with conditionings that carry an LR image, and the latent that is sampled."""

    model: Any
    positive: Any
    negative: Any
    latent: Any


@pytest.fixture(scope="session")
def wired():
    """The class of bases, for wirings of one's own."""
    return Base


@pytest.fixture(scope="session")
def embedded(comfy):
    """The embedded teacher on a picture whose left half is flat: 8 regions of 16 x 16 LR pixels."""
    sr = comfy.module("host.resshift.loading").load_one_step(EMBEDDED)
    picture = torch.full((1, 32, 64, 3), 0.5)
    picture[:, :, 32:] = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        empty = comfy.node("AdaptiveSREmptyPrompt").execute(sr.patcher).args[0]
        prepared = comfy.node("AdaptiveSRResShiftConditioning").execute(sr, empty, empty, picture).args
    return Base(sr.patcher, *prepared)


@pytest.fixture
def for_embedded(host, put, parts, embedded):
    """GAIN_MODELS for the embedded teacher."""

    def make(name="for_embedded.safetensors", facts=None, **changes):
        return host.load_gain_models(put(host.base_of(embedded.model), parts(48, 3, **changes), name, **facts or {}))

    return make


@pytest.fixture
def estimate(comfy):
    """MMLE Gain Estimator with its defaults but for what is given."""

    def call(**inputs):
        node = comfy.node("AdaptiveSRMMLEGainEstimator")
        values = {entry.id: entry.default for entry in node.define_schema().inputs if not entry.optional}
        with torch.inference_mode():
            return node.execute(**{**values, **inputs}).args[0]

    return call


@pytest.fixture
def inject(comfy):
    """PFJ Inject on a base."""

    def call(base, gain, gain_models=None, strength=1.0):
        node = comfy.node("AdaptiveSRPFJInject")
        with torch.inference_mode():
            return Base(*node.execute(base.model, base.positive, base.negative, gain, strength, gain_models).args, base.latent)  # fmt: skip

    return call


@pytest.fixture
def run(comfy):
    """Tiled Region Sampler on a base: (samples, report)."""

    def call(base, gain=None, latent=None, **inputs):
        node = comfy.node("AdaptiveSRTiledRegionSampler")
        with torch.inference_mode():
            out = node.execute(base.model, base.positive, base.negative, latent or base.latent, gain=gain, **{**SETTINGS, **inputs}).args  # fmt: skip
        return out[0]["samples"], json.loads(out[2])

    return call
