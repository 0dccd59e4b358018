"""The estimates that plan tile batches bound the activations a forward really holds, and not by much."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import memory, noise_predictor, registry
from adaptivesr.models import time_aware_adapter as adapters
from adaptivesr.models.compact_denoiser import CompactDenoiser, CompactDenoiserConfig
from adaptivesr.models.feature_injection import PfjConfig
from adaptivesr.models.gain_models import GainModels, GainModelsConfig
from adaptivesr.models.gain_regressor import MmleConfig
from adaptivesr.models.memory import activation_bytes as bytes_of
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.models.residual_unet import activation_bytes
from adaptivesr.models.vq_autoencoder import decode_bytes, encode_bytes
from adaptivesr.tools.device.layers import Casting
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

pytestmark = pytest.mark.slow

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys"
TIGHT = 1.25  # estimates choose how many tiles enter a call: what they are above the truth is room that no tile uses


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of the storages made inside it that are alive at the same time."""

    def __init__(self):
        super().__init__()
        self.live = WeakIdKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {leaf.untyped_storage()._cdata for leaf in args if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in before:
                self.live[leaf.untyped_storage()] = leaf.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.live.values()))
        return out


def fused(q, k, v, mask=None):
    return torch.empty_like(q)


def build(name, dtype):
    lines = [line.split() for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    sd = {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape, _ in lines}
    identified = registry.identify(sd)
    network = registry.build(identified, operations=Casting, device="meta", dtype=dtype, attention=fused)
    return identified.config, network


def measured(function, *args):
    with torch.no_grad(), PeakBytes() as mode:
        function(*args)
    return mode.peak


@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    [
        ("resshift_x4", (64, 64), torch.float32),
        ("resshift_x4", (128, 192), torch.float16),
        ("resshift_face", (64, 64), torch.float16),
    ],
)
def test_denoiser_estimate_bounds_the_peak(name, size, dtype):
    config, network = build(name, dtype)
    x = torch.empty(1, config.latent_channels, *size, dtype=dtype, device="meta")
    lq = torch.empty(1, 3, *(side * config.lq_factor for side in size), dtype=dtype, device="meta")
    peak = measured(network, x, torch.empty(1, device="meta"), lq)
    estimate = activation_bytes(config, *size, dtype.itemsize)
    assert peak <= estimate <= TIGHT * peak, (peak / 2**20, estimate / 2**20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("name", "size"), [("vq_f4", (256, 256)), ("vq_f4", (1024, 512)), ("vq_f8_face", (512, 512))])
def test_autoencoder_estimates_bound_the_peaks(name, size, dtype):
    config, network = build(name, dtype)
    image = torch.empty(1, 3, *size, dtype=dtype, device="meta")
    cells = tuple(side // network.downscale for side in size)
    z = torch.empty(1, config.latent_channels, *cells, dtype=dtype, device="meta")
    for function, data, estimate in ((network.encode, image, encode_bytes), (network.decode, z, decode_bytes)):
        peak = measured(function, data)
        bound = estimate(config, *cells, dtype.itemsize)
        assert peak <= bound <= TIGHT * peak, (peak / 2**20, bound / 2**20)


@pytest.mark.parametrize("size", [(64, 64), (40, 56)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("parts", ["mmle", "pfj"])
def test_gain_model_estimates_bound_the_peaks(parts, dtype, size):
    config = GainModelsConfig(MmleConfig() if parts == "mmle" else None, PfjConfig() if parts == "pfj" else None)
    network = GainModels(config, operations=Casting, device="meta", dtype=dtype).eval()
    latent = torch.empty(1, 4, *size, dtype=dtype, device="meta")
    t = torch.empty(1, device="meta")
    if parts == "mmle":
        peak = measured(network.mmle, latent, latent, latent, t, t)
    else:
        peak = measured(network.pfj, latent, torch.empty(1, 6, device="meta"))
    estimate = bytes_of(network, *size, dtype.itemsize)
    assert peak <= estimate <= TIGHT * peak, (peak / 2**20, estimate / 2**20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_compact_denoisers_estimate_bounds_the_peak(dtype):
    network = CompactDenoiser(CompactDenoiserConfig(), operations=Casting, device="meta", dtype=dtype)
    x = torch.empty(1, 48, 128, 96, dtype=dtype, device="meta")
    lq = torch.empty(1, 3, 128, 96, dtype=dtype, device="meta")
    peak = measured(network, x, torch.empty(1, device="meta"), lq)
    estimate = bytes_of(network, 128, 96, dtype.itemsize)
    assert peak <= estimate <= TIGHT * peak, (peak / 2**20, estimate / 2**20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_pixel_denoisers_estimate_bounds_the_peak(dtype):
    network = PixelDenoiser(PixelDenoiserConfig(), operations=Casting, device="meta", dtype=dtype)
    x = torch.empty(1, 48, 128, 96, dtype=dtype, device="meta")
    lq = torch.empty(1, 3, 128, 96, dtype=dtype, device="meta")
    peak = measured(network, x, torch.empty(1, device="meta"), lq)
    estimate = bytes_of(network, 128, 96, dtype.itemsize)
    assert peak <= estimate <= TIGHT * peak, (peak / 2**20, estimate / 2**20)


def test_estimates_grow_with_the_area():
    config, _ = build("resshift_x4", torch.float16)
    assert activation_bytes(config, 128, 128, 2) == 4 * activation_bytes(config, 64, 64, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("size", [(64, 64), (128, 64)])
def test_noise_predictor_estimate_bounds_the_peak(size, dtype):
    config, network = build("noise_predictor", dtype)
    image = torch.empty(1, 3, *(side * config.factor for side in size), dtype=dtype, device="meta")
    peak = measured(network, image, torch.empty(1, device="meta"))
    estimate = noise_predictor.activation_bytes(config, *size, dtype.itemsize)
    assert peak <= estimate <= TIGHT * peak, (peak / 2**20, estimate / 2**20)
    assert memory.activation_bytes(network, *size, dtype.itemsize) == estimate


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("design", ["full", "lite", "paper"])
def test_the_adapters_estimate_bounds_the_dearest_site(design, dtype):
    decoder = [(1280, 1280)] * 5 + [(1280, 640)] * 2 + [(640, 640)] + [(640, 320)] * 2 + [(320, 320)] * 2
    config = adapters.TimeAwareAdaptersConfig.for_channels(design, 1280, decoder)
    network = adapters.TimeAwareAdapters(config, operations=Casting, device="meta", dtype=dtype)
    peak = 0.0
    for index, (hidden, skip) in enumerate([(1280, 0), *decoder]):
        side = 64 >> (3 - max(0, index - 1) // 3)
        make = lambda c, side=side: torch.empty(1, c, side, side, dtype=dtype, device="meta")  # noqa: E731
        emb = torch.empty(1, 1280, dtype=dtype, device="meta")
        inputs = (make(hidden), make(skip) if skip else None, make(skip or hidden), emb)
        peak = max(peak, measured(network.forward_site, index, *inputs))
    estimate = bytes_of(network, 64, 64, dtype.itemsize)
    assert peak <= estimate <= TIGHT * peak, (peak / 2**20, estimate / 2**20)
