"""The pack's networks with random weights, at published or at small size, and inputs for one call of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...models import registry
from ...models.cfw import CFW, CFWConfig, FuseConfig
from ...models.feature_injection import PfjConfig
from ...models.gain_models import GainModels, GainModelsConfig
from ...models.gain_regressor import MmleConfig
from ...models.state_dict import StateDict, canonicalize, load_weights
from ...models.struct_parts import StructParts, select_parts
from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ..small_models.random_tensors import normal, random_tensor
from ..small_models.resshift import small_teacher, small_vq
from ..small_models.stablesr import small_stablesr
from ..small_models.tiny import tiny_noise_predictor
from .layers import Casting

ROOT = Path(__file__).resolve().parents[2]
KEYS = ROOT / "tests" / "golden" / "keys"
WEIGHTS = ROOT / "models" / "weights"
SD21_DECODER = [(1280, 1280)] * 5 + [(1280, 640)] * 2 + [(640, 640)] + [(640, 320)] * 2 + [(320, 320)] * 2
"""Channels of (decoder feature, skip) of SD 2.1, deepest first, after the first block's."""
Call = Callable[[nn.Module, Mapping[str, Tensor]], Any]


@dataclass(frozen=True)
class Subject:
    """A network in evaluation mode and float32, inputs of one call by name, and the call."""

    name: str
    network: nn.Module
    inputs: Mapping[str, Tensor]
    call: Call

    def on(self, device: torch.device | str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        """The network and its inputs there; a quantiser stays in float32, as the pack keeps it. Times do too."""
        network = self.network.to(device, dtype)
        quantiser = getattr(network, "quantize", None)
        if quantiser is not None:
            quantiser.float()
        return network, {k: v.to(device, torch.float32 if k.startswith("t") else dtype) for k, v in self.inputs.items()}


def random_weights(shapes: Mapping[str, torch.Size], generator: torch.Generator) -> StateDict:
    """A state dict of such tensors."""
    return {key: random_tensor(key, shape, normal(generator)) for key, shape in shapes.items()}


def published(name: str, generator: torch.Generator) -> StateDict:
    """Random tensors for a published file's list of keys."""
    lines = (line.split() for line in (KEYS / f"{name}.txt").read_text(encoding="utf-8").splitlines())
    shapes = {key: torch.Size(int(side) for side in shape.split("x") if side.isdigit()) for key, shape, _ in lines}
    return canonicalize(random_weights(shapes, generator))


def _built(weights: StateDict) -> nn.Module:
    network = registry.build(registry.identify(weights), operations=Casting)
    load_weights(network, weights)
    return network.eval()


def _filled(network: nn.Module, generator: torch.Generator) -> nn.Module:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(random_weights(shapes, generator))
    return network.eval()


def subjects(*, small: bool) -> Iterator[Subject]:
    """Every network, one after the other, so that few are in memory at once."""
    draw = torch.Generator().manual_seed(0)
    cells = 16 if small else 64
    yield _denoiser(_built(small_teacher() if small else published("resshift_x4", draw)), cells, draw)
    yield from _autoencoder(_built(small_vq() if small else published("vq_f4", draw)), cells, draw)
    for file in ("embedded_one_step", "embedded_teacher"):
        yield _embedded(file, cells, draw)
    yield _predictor(_built(tiny_noise_predictor() if small else published("noise_predictor", draw)), cells, draw)
    parts = (
        small_stablesr({"input_blocks.1.0": 32, "middle_block.0": 32}, levels=2)
        if small
        else published("stablesr_512", draw)
    )
    yield from _stablesr(_built(select_parts(parts)), cells, draw)
    config = CFWConfig((FuseConfig(32, 32, 8, 1), FuseConfig(32, 32, 8, 1))) if small else CFWConfig()
    yield _cfw(CFW(config, operations=Casting), cells, draw)
    for design in ("lite", "full", "paper"):
        pairs = [(64, 64)] * 4 if small else SD21_DECODER
        shape = TimeAwareAdaptersConfig.for_channels(design, pairs[0][0], pairs, emb_channels=4 * pairs[-1][0])
        yield _adapters(design, TimeAwareAdapters(shape, operations=Casting), pairs, cells, draw)
    yield from _gains(GainModels(GainModelsConfig(MmleConfig(), PfjConfig()), operations=Casting), cells, draw)


def _noise(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw)


def _denoiser(network: Any, cells: int, draw: torch.Generator) -> Subject:
    channels = network.config.latent_channels
    inputs = {"x": _noise(draw, 1, channels, cells, cells), "t": torch.tensor([3.0])}
    inputs["lq"] = _noise(draw, 1, 3, cells, cells).clamp(-1, 1)
    return Subject("ResShift denoiser", network, inputs, lambda n, i: n(i["x"], i["t"], i["lq"]))


def _autoencoder(network: Any, cells: int, draw: torch.Generator) -> Iterator[Subject]:
    image = _noise(draw, 1, 3, 4 * cells, 4 * cells).clamp(-1, 1)
    yield Subject("VQ encoder", network, {"image": image}, lambda n, i: n.encode(i["image"]))
    codes = network.quantize.embedding.weight.detach()
    chosen = torch.randint(len(codes), (cells * cells,), generator=draw)
    # On the codes: what is nearest is no matter of rounding.
    z = codes[chosen].T.reshape(1, -1, cells, cells).contiguous()
    yield Subject("VQ decoder", network, {"z": z}, lambda n, i: n.decode(i["z"]))


def _embedded(file: str, cells: int, draw: torch.Generator) -> Subject:
    weights = canonicalize(load_file(WEIGHTS / f"{file}.safetensors"))
    network: Any = _built(weights)
    inputs = {"x": _noise(draw, 1, network.config.latent_channels, cells, cells), "t": torch.tensor([0.0])}
    inputs["lq"] = _noise(draw, 1, 3, cells, cells).clamp(-1, 1)
    return Subject(file.replace("_", " "), network, inputs, lambda n, i: n(i["x"], i["t"], i["lq"]))


def _predictor(network: Any, cells: int, draw: torch.Generator) -> Subject:
    side = cells * network.config.factor
    inputs = {"image": _noise(draw, 1, 3, side, side).clamp(0, 1), "t": torch.tensor([249.0])}
    return Subject("noise predictor", network, inputs, lambda n, i: n(i["image"], i["t"]))


def _stablesr(network: nn.Module, cells: int, draw: torch.Generator) -> Iterator[Subject]:
    assert isinstance(network, StructParts)
    inputs = {"latent": _noise(draw, 1, 4, cells, cells), "t": torch.tensor([500.0])}
    yield Subject("StableSR encoder", network, inputs, lambda n, i: n.encoder(i["latent"], i["t"]))
    name, shape = network.config.modulations[0]
    features = int(shape.features)
    inputs = {"h": _noise(draw, 1, shape.channels, cells, cells), "maps": _noise(draw, 1, features, cells, cells)}
    yield Subject("StableSR SFT", network, inputs, lambda n, i: n.modulations()[name](i["h"], i["maps"]))


def _cfw(network: CFW, cells: int, draw: torch.Generator) -> Subject:
    sizes = network.config.of(1)
    inputs = {
        "encoded": _noise(draw, 1, sizes.encoder_channels, 2 * cells, 2 * cells),
        "decoded": _noise(draw, 1, sizes.channels, 2 * cells, 2 * cells),
    }
    return Subject("CFW", _filled(network, draw), inputs, lambda n, i: n(1, i["encoded"], i["decoded"], 0.5))


def _adapters(
    design: str, network: TimeAwareAdapters, pairs: list[tuple[int, int]], cells: int, draw: torch.Generator
) -> Subject:
    hidden, skip = pairs[-1]
    inputs = {"h": _noise(draw, 1, hidden, cells, cells), "skip": _noise(draw, 1, skip, cells, cells)}
    inputs |= {"residual": _noise(draw, 1, skip, cells, cells), "emb": _noise(draw, 1, network.config.emb_channels)}
    site = len(pairs)
    return Subject(
        f"adapters, {design}",
        _filled(network, draw),
        inputs,
        lambda n, i: n.forward_site(site, i["h"], i["skip"], i["residual"], i["emb"]),
    )


def _gains(network: GainModels, cells: int, draw: torch.Generator) -> Iterator[Subject]:
    _filled(network, draw)
    x0 = _noise(draw, 1, 4, cells, cells)
    inputs = {"x0": x0, "last": x0 + 0.1 * _noise(draw, 1, 4, cells, cells), "lr": _noise(draw, 1, 4, cells, cells)}
    inputs |= {"t": torch.tensor([300.0]), "t_last": torch.tensor([500.0])}
    yield Subject("MMLE", network, inputs, lambda n, i: n.mmle(i["x0"], i["last"], i["lr"], i["t"], i["t_last"]))
    inputs = {"lr": x0, "gains": _noise(draw, 1, 6).clamp(-1, 1)}
    yield Subject("PFJ", network, inputs, lambda n, i: n.pfj(i["lr"], i["gains"]))
