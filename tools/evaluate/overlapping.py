"""Large pictures of Tiled Region Sampler: blocks that overlap go through the workflow, each as a picture of its own, and are cross-faded.

It leaves traces, which docs/scale.md measures: regions are spread over a block as they would be over a picture of its size, those at its borders do
not see what lies beyond, and what the VAE and MMLE Gain Estimator take statistics of is a block. The noise is the same wherever two blocks overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..env.client import Prompt
from ..env.steps import StepError
from .blocks import Block, BlockStore, CannotCutError, named
from .colors import GlobalColorFix, global_fix
from .graph import RESULTS, SEEDS
from .pictures import Picture, as_png, decode
from .worker import DONE, FAILED, PictureJob, PictureOutcome, WorkerSpec

if TYPE_CHECKING:
    from ...imaging.color import ColorFix
    from ...imaging.tiles import Core, Region

SAMPLER, COLOUR_FIX, ENLARGER = "AdaptiveSRTiledRegionSampler", "AdaptiveSRWaveletColorFix", "ImageScale"
GRID = 16
"""Pixels of the input of which blocks begin at multiples, so that they begin with a cell of the latent at any scale."""


def check(prompt: Prompt) -> None:
    """Raises CannotCutError for a prompt in API form, cut down to its result, whose blocks would not be parts of one picture."""
    kinds = [node["class_type"] for node in prompt.values()]
    if SAMPLER not in kinds:
        raise CannotCutError("nothing in it is of Tiled Region Sampler")
    for node in prompt.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind != SAMPLER and any(name in inputs for name in SEEDS):
            raise CannotCutError(
                f"the noise of {kind} belongs to the whole picture; that of Tiled Region Sampler to places"
            )
        if kind == "LoadImageMask" or "budget" in inputs:
            raise CannotCutError("a mask of the whole picture lies over it")
        sizes = {name: inputs[name] for name in ("width", "height", "megapixels") if inputs.get(name)}
        if sizes and not _follows_the_width(prompt, node):
            raise CannotCutError(f"{kind} sets {' and '.join(sizes)}, whatever comes in: expected ImageScaleBy")
    color_fix_of(prompt)


def color_fix_of(prompt: Prompt) -> tuple[ColorFix | None, dict[str, dict[str, Any]]]:
    """The colour fix by statistics of the whole picture, and the inputs by node that leave it out of a block's prompt; None: there is none.

    Raises CannotCutError where something comes after such a fix, or the colours are not the picture's own.
    """
    nodes = [(key, node["inputs"]) for key, node in prompt.items() if node["class_type"] == COLOUR_FIX]
    fixes = [(key, inputs, mode) for key, inputs in nodes if (mode := global_fix(str(inputs.get("mode"))))]
    if not fixes:
        return None, {}
    key, inputs, mode = fixes[0]
    result = next(key for key, node in prompt.items() if node["class_type"] in RESULTS)
    if len(fixes) > 1 or prompt[result]["inputs"]["images"] != [key, 0]:
        raise CannotCutError(
            f"the colour fix {mode.value} takes statistics of the whole picture, and is not the last node: expected it right before Save Image"
        )
    if not _is_the_picture(prompt, inputs["reference"]):
        raise CannotCutError(f"the reference of the colour fix {mode.value} is not the picture itself")
    return mode, {result: {"images": inputs["image"]}}


def _is_the_picture(prompt: Prompt, link: Any) -> bool:
    """Whether an input comes from Load Image, at any size."""
    node = prompt[str(link[0])]
    while node["class_type"] in ("ImageScaleBy", ENLARGER):
        node = prompt[str(node["inputs"]["image"][0])]
    return node["class_type"] == "LoadImage"


def _follows_the_width(prompt: Prompt, node: dict[str, Any]) -> bool:
    """Whether a node enlarges the picture itself to a width, and the height with it."""
    inputs = node["inputs"]
    source = inputs.get("image")
    return (
        node["class_type"] == ENLARGER
        and isinstance(inputs.get("width"), int)
        and inputs.get("height") == 0
        and isinstance(source, list)
        and prompt[str(source[0])]["class_type"] == "LoadImage"
    )


def rectangles(size: tuple[int, int], side: int, halo: int) -> list[tuple[Core, Region]]:
    """Of every block of a picture of (height, width): what it adds to the picture in what a worker gets, and what is kept to be cross-faded."""
    from ...imaging.tiles import Core, Region, partition  # noqa: PLC0415
    from ...sampling.tiled.one_step_blocks import grown  # noqa: PLC0415

    whole, half = Region(0, 0, *size), _half(halo)
    rows, columns = (-(-length // GRID) for length in size)
    found = list[tuple[Core, Region]]()
    for core in partition(rows, columns, side // GRID, half):
        inner, kept = (_within(region.scaled(GRID), whole) for region in (core.inner, core.outer))
        found.append((Core(inner, grown(kept, half * GRID, *size)), kept))
    return found


def _half(halo: int) -> int:
    """Half of a halo in steps of the grid."""
    return max(1, halo // 2 // GRID)


@dataclass(frozen=True)
class OverlappingCut:
    """Blocks of at most `side` pixels of the input, `halo` more on every side, of which the inner half is cross-faded."""

    prompt: Prompt
    side: int
    halo: int

    def spec(self, spec: WorkerSpec) -> WorkerSpec:
        """Of its workers, from that of a run's."""
        return replace(spec, metrics=())

    def keeper(self) -> BlockStore:
        """Of its blocks."""
        return CroppingStore()

    def parts(self, picture: Picture, folder: Path, size: tuple[int, int]) -> tuple[list[Block], str]:
        """All blocks of a picture of (height, width), and words about them; StepError if they would be smaller than what they share."""
        if self.side < 4 * self.halo:
            raise StepError(
                f"Got --block {self.side} and --halo {self.halo}: expected blocks of at least four times the halo."
            )
        place, faded = folder / f"{self.side} {self.halo} overlapping", 2 * GRID * _half(self.halo)
        blocks = [named(picture, place, core, kept) for core, kept in rectangles(size, self.side, self.halo)]
        return blocks, f"blocks that share {2 * faded} pixels, of which {faded} are cross-faded"

    def colors(self, levels: np.ndarray[Any, Any]) -> GlobalColorFix | None:
        """The colour fix that is made when all blocks of a picture (H, W, 3) are there."""
        mode, _ = color_fix_of(self.prompt)
        return None if mode is None else GlobalColorFix(mode, levels)

    def probe(self, parts: Sequence[Block]) -> Sequence[Block]:
        """The first block: how much larger it becomes says where the others lie in the result."""
        return parts[:1]

    def work(self, parts: Sequence[Block], records: Sequence[Mapping[str, Any]]) -> tuple[int | None, float | None]:
        """Model calls and TFLOP of a picture; None where a block does not tell, or was made by an earlier run."""
        calls, tflop = ([record[key] for record in records] for key in ("calls", "tflop"))
        return (None if None in calls else sum(calls)), (None if None in tflop else sum(tflop))

    def jobs(self, parts: Sequence[Block], levels: np.ndarray[Any, Any], seed: int) -> Callable[[Block], PictureJob]:
        """What a worker needs for a block; the first one has to be done before the others."""
        width, without_fix = levels.shape[1], color_fix_of(self.prompt)[1]

        def job_for(block: Block) -> PictureJob:
            outer = block.core.outer
            scale = 0 if block is parts[0] else parts[0].scale
            changes = dict(without_fix)
            for key, node in self.prompt.items():
                if node["class_type"] == SAMPLER:
                    changes[key] = {"noise_top": outer.y * scale, "noise_left": outer.x * scale}
                elif _follows_the_width(self.prompt, node):
                    changes[key] = {"width": outer.width * node["inputs"]["width"] // width}
            content = as_png(levels[outer.slices].astype(np.float32) / 255)
            return PictureJob(block.name, seed, content, changes=changes)

        return job_for


class CroppingStore(BlockStore):
    """Keeps of a block's result what is put together."""

    def save(self, block: Block, outcome: PictureOutcome, worker: str) -> dict[str, Any]:
        """Writes a block's pixels; the record is one of a failure where it is not larger by a whole number."""
        if outcome.status == DONE:
            (width, height), outer, kept = outcome.result_size, block.core.outer, block.kept
            scale = width // outer.width
            if not scale or (width, height) != (scale * outer.width, scale * outer.height):
                why = f"{outer.width}x{outer.height} pixels became {width}x{height}: expected a whole multiple"
                return super().save(block, replace(outcome, status=FAILED, error=why), worker)
            large = decode(outcome.image).pixels
            inside = replace(kept, y=kept.y - outer.y, x=kept.x - outer.x).scaled(scale)
            outcome = replace(outcome, image=(large[inside.slices] * 255 + 0.5).astype(np.uint8).tobytes())
        return super().save(block, outcome, worker)


def _within(region: Region, whole: Region) -> Region:
    """The part of a region that lies on the picture."""
    height, width = min(region.height, whole.height - region.y), min(region.width, whole.width - region.x)
    return replace(region, height=height, width=width)
