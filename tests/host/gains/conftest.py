"""Small files of AdaDiffSR's parts in the host's folder, and the pack's modules that take them."""

import os

import pytest
import torch
from adaptivesr.models.gain_models import GainModels, GainModelsConfig, GainModelsInfo, MetricInfo
from adaptivesr.models.mmle import MmleConfig
from adaptivesr.models.pfj import PfjConfig
from safetensors.torch import save_file

METRICS = (
    MetricInfo("psnr", 10.0, 35.0, False, True, 0.5),
    MetricInfo("nlpd", 0.0, 1.0, True, True, 0.5),
    MetricInfo("sharpness", 0.0, 4.0, False, False, 1.0),
)


def small_parts(latent=4, condition=4, *, mmle=True, pfj=True, fresh=False, scale=0.05):
    """Tensors of a file: random, or as training starts (`fresh`)."""
    config = GainModelsConfig(
        MmleConfig(latent, (16,) * 7, 8, 24, len(METRICS)) if mmle else None,
        PfjConfig(condition, 16, 24, 2, 20, len(METRICS)) if pfj else None,
    )
    torch.manual_seed(0)
    network = GainModels(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in () if fresh else network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.fixture(scope="session")
def parts():
    """The function that makes a file's tensors."""
    return small_parts


@pytest.fixture(scope="session")
def metrics():
    """What the gains of the files are of."""
    return METRICS


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
    return comfy.module("host.gain_models")


@pytest.fixture
def put(folder):
    """Writes a file with metadata for a base (identity, label), which the loader then lists."""
    import folder_paths

    def write(base, tensors=None, name="small_gain_models.safetensors", metrics=METRICS, **facts):
        info = GainModelsInfo(*base, metrics, **facts)
        save_file(small_parts() if tensors is None else tensors, os.path.join(folder, name), info.to_metadata())
        folder_paths.filename_list_cache.clear()
        return name

    return write
