"""The InvSR rows of `bench tiles`: one step by Super Resolution (InvSR), in latent regions and by the published pixel chop.

Counts are those of the node's report after a real run; the predictor and the checkpoint are the small ones of our tests.
Pixel chop has the settings of the existing ComfyUI port: patches of 128 LR pixels that overlap by half.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ....imaging.padding import to_chop
from ....sampling.tiled.invsr import chop_regions
from ....sampling.tiled.start_noise import PATCH_MULTIPLE
from ...env.client import Prompt, PromptRun
from ...env.steps import StepError
from ...small_models.checkpoints import SMALL_SD2
from ...small_models.tiny import TINY_PREDICTOR

PATCH, CELL = 128, 8
ORDERS = ("latent regions", "pixel chop")
GOAL = {"latent_mpx": 0.147, "decoded_per_output": 1.3}
"""What `latent regions` may take at most from 512 to 2048 pixels."""


def graph(picture: str, order: str, rows: int) -> Prompt:
    """Checkpoint, predictor, picture, and the node under test as `sample`."""
    inputs = {
        "model": ["load", 0],
        "positive": ["prompt", 0],
        "negative": ["prompt", 0],
        "vae": ["load", 2],
        "noise_predictor": ["predictor", 0],
        "image": ["photo", 0],
        "steps": 1,
        "taus": "",
        "seed": 0,
        "strength": 1.0,
        "cfg": 1.0,
        "color_fix": "none",
        "mode": order,
        "patch_size": PATCH,
        "overlap": 32,
        "patch_batch": rows,
    }
    return {
        "load": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SMALL_SD2}},
        "predictor": {"class_type": "AdaptiveSRLoadNoisePredictor", "inputs": {"model_name": TINY_PREDICTOR}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": picture}},
        "prompt": {"class_type": "AdaptiveSREmptyPrompt", "inputs": {"model": ["load", 0]}},
        "sample": {"class_type": "AdaptiveSRInvSRUpscale", "inputs": inputs},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["sample", 1]}},
        "save": {"class_type": "PreviewImage", "inputs": {"images": ["sample", 0]}},
    }


def row_of(run: PromptRun, seconds: float) -> dict[str, float]:
    """What the node says it did."""
    report = json.loads(run.outputs["report"]["text"][0])
    names = ("predictor_rows", "model_calls", "latent_mpx", "encoded_mpx", "decoded_mpx", "decoded_per_output")
    return {**{name: report[name] for name in names}, "seconds": seconds}


def chop_counts(size: int, scale: int) -> dict[str, float]:
    """What pixel chop does on a square picture, from its grid alone (a test holds the pipeline to these counts)."""
    padding = to_chop(size, size, PATCH, PATCH_MULTIPLE)
    patches, output = len(chop_regions(padding, PATCH)), (size * scale) ** 2
    pixels = patches * (PATCH * scale) ** 2
    return {
        "predictor_rows": patches,
        "model_calls": patches,
        "latent_mpx": pixels / CELL**2 / 1e6,
        "encoded_mpx": pixels / 1e6,
        "decoded_mpx": pixels / 1e6,
        "decoded_per_output": pixels / output,
    }


def check_goal(row: Mapping[str, float]) -> None:
    """Raises StepError where latent regions take more than they may."""
    over = {name: row[name] for name, most in GOAL.items() if row[name] > most}
    if over:
        raise StepError(f"InvSR in latent regions takes more than {GOAL}: {over}.")


def table(rows: Mapping[str, Mapping[str, float]], size: int, scale: int) -> Sequence[str]:
    """Lines of the report."""
    lines = [
        f"Super Resolution (InvSR), 1 step, {size} -> {scale * size} pixels, patches of 128 LR pixels; look at the counts: seconds are "
        "those of the node, VAE included, on a machine that may have done other work.",
        "",
        "| mode | predictor patches | model calls | latent Mpx | encoded Mpx | decoded Mpx | decoded / output | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else ""
        lines.append(
            f"| {name} | {row['predictor_rows']:.0f} | {row['model_calls']:.0f} | {row['latent_mpx']:.3f} | {row['encoded_mpx']:.2f} | "
            f"{row['decoded_mpx']:.2f} | {row['decoded_per_output']:.2f} | {seconds} |"
        )
    return lines
