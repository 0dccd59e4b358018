"""Pictures of every odd size through every workflow: each comes out at exactly the size that the workflow enlarges to."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ..env import server as devserver
from ..env.client import Client, HostError, Prompt, nodes_of_class
from ..env.environment import ROOT
from ..small_models.stand_ins import put_stand_ins
from .outcomes import HostWork, Outcomes
from .values import judged, small_workflow

UPSCALING = (
    "one_step_sr", "adaptive_upscale", "adadiffsr_embedded", "image_quality", "invsr", "invsr_steps", "stablesr", "stablesr_768v",
    "stablesr_turbo", "stablesr_embedded", "adadiffsr", "tasr", "tasr_embedded", "tasr_training_free", "tiled_region_upscale", "adadiffsr_any_model",
    "adaptive_upscale_checkpoint",
)  # fmt: skip
"""Workflows that make a large picture of the one that is loaded."""
SWEPT = tuple(name for name in UPSCALING if name not in ("stablesr", "stablesr_768v", "stablesr_embedded"))
"""Those that differ in what they do with sizes: the graph of these three is stablesr_turbo's."""
TRAINING: dict[str, dict[str, object]] = {
    "distill_one_step": {"steps": 1, "batch_size": 1, "generated_pictures": 1, "crop_size": 64, "metrics": "psnr"},
    "train_mmle": {
        "steps": 1, "batch_size": 2, "crop_size": 64, "trajectories": 8, "calls": 4, "metrics": "psnr", "schedule": 10,
    },
    "train_noise_predictor": {
        "steps": 1, "batch_size": 1, "crop_size": 64, "size": "small", "precision": "float32", "taus": "200", "samples_every": 0,
    },
    "train_stablesr": {"steps": 1, "batch_size": 1, "crop_size": 64},
    "train_cfw": {"steps": 1, "batch_size": 1, "crop_size": 64, "triples": 1, "sampling_steps": 1},
}  # fmt: skip
"""Workflows that train, and what makes them short."""
ODD_SIDES = range(1, 70, 2)
OTHER_SIDE = 40
SIZES = [
    *((side, 70 - side) for side in ODD_SIDES),
    *((side, OTHER_SIDE) for side in ODD_SIDES),
    *((OTHER_SIDE, side) for side in ODD_SIDES),
]
"""(width, height): both sides are every odd number in the first third."""
CASES = [(name, size) for size in SIZES for name in SWEPT]
SCALE, OTHER_SCALE = 4, 3
"""Of the workflows that enlarge by a factor, and of those that enlarge to a width: odd, so that odd sides stay odd."""


def short_workflow(name: str, picture: str, width: int, run: str = "fuzz") -> Prompt:
    """A shipped workflow on small networks with a picture of that width, of few steps."""
    prompt = small_workflow(name)
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "LoadImage":
            inputs["image"] = picture
        if node["class_type"] == "ImageScale":
            inputs["width"] = OTHER_SCALE * width
        if node["class_type"].startswith(("AdaptiveSRTrain", "AdaptiveSRDistill")):
            inputs.update({key: value for key, value in TRAINING[name].items() if key in inputs}, name=run)
    return prompt


def expected_size(prompt: Prompt, name: str, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the result for a picture of (width, height)."""
    width, height = size
    if nodes_of_class(prompt, "ImageScale"):
        return OTHER_SCALE * width, OTHER_SCALE * height
    if name == "image_quality":  # what is measured is a picture in whole pixels of the degraded one
        return width // SCALE * SCALE, height // SCALE * SCALE
    return SCALE * width, SCALE * height


def saved_sizes(
    client: Client, prompt: Prompt, outputs: dict[str, dict[str, list[dict[str, str]]]]
) -> list[tuple[int, int]]:
    """(width, height) of every picture that the workflow has saved."""
    (node,) = nodes_of_class(prompt, "SaveImage")
    found: list[tuple[int, int]] = []
    for entry in outputs.get(node, {}).get("images", []):
        with Image.open(io.BytesIO(client.image(entry))) as picture:
            found.append(picture.size)
    return found


def prepare(base: Path) -> None:
    """Stand-ins for all files that the workflows name."""
    put_stand_ins((small_workflow(path.stem) for path in (ROOT / "workflows" / "api").glob("*.json")), base)


def gradient(path: Path, size: tuple[int, int], frames: int = 1) -> Path:
    """A picture file of that size; of several frames where its format has them."""
    pictures = [Image.linear_gradient("L").rotate(90 * turn).convert("RGB").resize(size) for turn in range(frames)]
    if frames > 1:
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
    else:
        pictures[0].save(path)
    return path


def outcome_of_size(client: Client, folder: Path, name: str, size: tuple[int, int]) -> str:
    """How a workflow ended on a picture of that size."""
    file = gradient(folder / f"sized_{size[0]}_{size[1]}.png", size)
    prompt = short_workflow(name, client.upload_image(file), size[0])
    try:
        run = client.run(prompt, timeout=120)
    except HostError as error:
        return f"BAD host: {error}"
    if not run.succeeded:
        return judged(run)
    found, expected = saved_sizes(client, prompt, run.outputs), expected_size(prompt, name, size)
    return "exact" if found == [expected] else f"BAD size: {found} in the place of {expected}"


def run(source: Path, count: int, case: int | None = None) -> Outcomes:
    """The first cases of the list, or one."""
    outcomes = Outcomes("sizes", 0)
    with devserver.running_host(source, prepare=prepare, quiet=True) as running, running.client() as client:
        folder, watch = running.base / "temp", HostWork(running.process.pid)
        folder.mkdir(exist_ok=True)
        for number in range(min(count, len(CASES))) if case is None else [case]:
            name, size = CASES[number]
            watch.restart()
            outcome = outcome_of_size(client, folder, name, size)
            outcomes.add(number, f"{name}, {size[0]} x {size[1]}", outcome, watch.seconds())
    return outcomes
