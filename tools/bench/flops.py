"""`dev.py bench flops`: arithmetic of the host's UNets, of ResShift's networks and of ours, counted by torch on shapes alone.

It is the source of `sampling.network_cost`.

The polynomial of `NetworkCost` goes through three sizes; two more, one of them not square, show that it is exact.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...models.residual_unet import ResidualUNet, ResidualUNetConfig
from ...models.vq_autoencoder import VQAutoencoder, VQConfig
from ...sampling.network_cost import COUNTED, NetworkCost
from ..env import environment as env
from ..env.in_process import enter_host
from .parts.report import write_report
from .parts.restorers import load_denoiser

ROOT = Path(__file__).resolve().parents[2]
KEYS = ROOT / "tests" / "golden" / "keys"
TOKENS = 77
WEIGHTS = ROOT / "models" / "weights"
EMBEDDED = {"embedded one step": "embedded_one_step.safetensors", "embedded teacher": "embedded_teacher.safetensors"}
FITTED, CHECKED = ((64, 64), (128, 128), (192, 192)), ((320, 320), (64, 128))
SHARED: Mapping[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
SMALL: Mapping[str, Any] = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
LARGE: Mapping[str, Any] = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "SD 1.5": {**SHARED, **SMALL, "context_dim": 768, "num_heads": 8, "use_linear_in_transformer": False},
    "SD 2.1": {**SHARED, **SMALL, "context_dim": 1024, "num_head_channels": 64, "use_linear_in_transformer": True},
    "SDXL": {**SHARED, **LARGE, "context_dim": 2048, "num_head_channels": 64, "use_linear_in_transformer": True},
}
"""The published UNets as the host's detection describes them."""


def host_unet(config: Mapping[str, Any]) -> nn.Module:
    """The host's UNet without memory. Only after `enter_host`."""
    unet = importlib.import_module("comfy.ldm.modules.diffusionmodules.openaimodel").UNetModel
    operations = importlib.import_module("comfy.ops").disable_weight_init
    return unet(**config, dtype=torch.float32, device="meta", operations=operations)


Count = Callable[[int, int], int]
"""Operations of one forward of a row of (height, width) latent cells."""


def counted(call: Callable[..., Tensor], *given: Tensor | None, **named: Tensor | None) -> int:
    """Operations of a call, with attention as torch's own function."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*given, **named)
    return counter.get_total_flops()


def unet_count(config: Mapping[str, Any]) -> Count:
    """Counts a UNet of the host."""
    network = host_unet(config)
    text = torch.empty(1, TOKENS, config["context_dim"], device="meta")
    vector = torch.empty(1, config["adm_in_channels"], device="meta") if "adm_in_channels" in config else None
    times = torch.empty(1, device="meta")
    return lambda h, w: counted(network, torch.empty(1, 4, h, w, device="meta"), times, context=text, y=vector)


def one_step_counts() -> dict[str, Count]:
    """Counts the published networks of the ResShift family, by the lists of their keys, and our own, by their files."""
    config = ResidualUNetConfig.from_state_dict(listed("resshift_x4"))
    denoiser, times = ResidualUNet(config, device="meta"), torch.zeros(1, device="meta")

    def picture(channels: int, height: int, width: int) -> Tensor:
        return torch.empty(1, channels, height, width, device="meta")

    counts: dict[str, Count] = {
        "ResShift": lambda h, w: counted(denoiser, picture(config.latent_channels, h, w), times, picture(3, h, w))
    }
    for name, file in EMBEDDED.items():
        counts[name] = _embedded(load_denoiser(WEIGHTS / file).to("meta"))
    for name, keys in {"VQ-f4": "vq_f4", "VQ-f8": "vq_f8_face"}.items():
        autoencoder = VQAutoencoder(VQConfig.from_state_dict(listed(keys)), device="meta")
        counts |= _halves(name, autoencoder)
    return counts


def _embedded(network: Any) -> Count:
    """A call of one of our networks, whose latents are rearranged pixels."""
    channels, factor = network.config.latent_channels, network.config.lq_factor

    def count(height: int, width: int) -> int:
        x = torch.empty(1, channels, height, width, device="meta")
        lq = torch.empty(1, 3, factor * height, factor * width, device="meta")
        return counted(network, x, torch.zeros(1, device="meta"), lq)

    return count


def _halves(name: str, autoencoder: VQAutoencoder) -> dict[str, Count]:
    factor, channels = autoencoder.downscale, autoencoder.latent_channels
    return {
        f"{name} encoder": lambda h, w: counted(
            autoencoder.encode, torch.empty(1, 3, factor * h, factor * w, device="meta")
        ),
        f"{name} decoder": lambda h, w: counted(
            autoencoder.decode, torch.empty(1, channels, h, w, device="meta"), quantize=False
        ),
    }


def listed(name: str) -> dict[str, Tensor]:
    """The tensors of a published file by its list of keys, without memory."""
    found: dict[str, Tensor] = {}
    for line in (KEYS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        key, shape, kind = line.split()
        sides = [int(side) for side in shape.split("x")] if shape not in {"scalar", "-", "()"} else []
        found[key] = torch.empty(sides, dtype=getattr(torch, kind), device="meta")
    return found


def fitted(counts: Mapping[tuple[int, int], int]) -> NetworkCost:
    """The polynomial through the counts of three sizes."""
    cells = [height * width for height, width in counts]
    powers = torch.tensor([[1.0, n, float(n) ** 2] for n in cells], dtype=torch.float64)
    found = torch.linalg.solve(powers, torch.tensor(list(counts.values()), dtype=torch.float64))
    fixed, per_cell, per_pair = found.tolist()
    return NetworkCost(round(fixed), round(per_cell), round(per_pair, 2) + 0.0)  # no -0.0


def torch_attention() -> None:
    """Makes the host choose torch's own attention, which runs on shapes alone. Before the host is imported."""
    importlib.import_module("comfy.cli_args").args.use_pytorch_cross_attention = True


def main(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="bench flops", description=__doc__).parse_args(argv)
    enter_host(env.host_source(env.ensure_environment()), cpu=True)
    torch_attention()
    rows, errors = {}, []
    counts = {name: unet_count(config) for name, config in CONFIGS.items()} | one_step_counts()
    for name, count in counts.items():
        cost = fitted({size: count(*size) for size in FITTED})
        errors += [abs(cost(*size) / count(*size) - 1) for size in CHECKED]
        shares = {f"{side}": cost.per_pair * side**4 / cost(side, side) for side in (64, 96, 128, 256)}
        rows[name] = {**vars(cost), "tflop_64": cost(64, 64) / 1e12, "attention": shares}
    lines = [
        f"One row, for UNets {TOKENS} tokens; autoencoders per latent cell. Attention: share of the arithmetic between pairs of cells, at so many cells a side.",
        "",
        "| network | fixed | per cell | per pair of cells | TFLOP at 64 x 64 | attention 64 | 96 | 128 | 256 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        shares = " | ".join(f"{share:.0%}" for share in row["attention"].values())
        lines.append(
            f"| {name} | {row['fixed']} | {row['per_cell']} | {row['per_pair']} | {row['tflop_64']:.4f} | {shares} |"
        )
    lines += ["", f"Largest error at {CHECKED}: {max(errors):.1e}."]
    write_report("flops", {"rows": rows, "largest_error": max(errors)}, lines)
    stored = {name: NetworkCost(row["fixed"], row["per_cell"], row["per_pair"]) for name, row in rows.items()}
    return 0 if stored == COUNTED and max(errors) < 1e-9 else 1
