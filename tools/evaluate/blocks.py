"""Pictures too large for a worker's memory: cut into blocks that workers upscale, put together in a tiled BigTIFF.

Only for what can be cut without a trace: One-Step Distilled SR with embedded one-step weights, and Wavelet Color Fix behind it (sampling/tiled/
one_step_blocks.py). A worker needs no ComfyUI for it. The driver holds the input as 8 bits, and nothing of the result. Colour fixes that take
statistics of the whole picture are made when all blocks are there (colors.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from ...training import atomic
from ..env.client import Prompt
from ..env.environment import ROOT
from .colors import GlobalColorFix, global_fix
from .graph import RESULTS
from .pictures import Picture, UnreadableError
from .worker import DONE, REFUSED, PictureJob, PictureOutcome, Worker, WorkerSpec

if TYPE_CHECKING:
    from torch import Tensor

    from ...imaging.color import ColorFix
    from ...imaging.tiles import Core, Region
    from ...sampling.tiled.one_step_blocks import BlockUpscaler

WEIGHTS: Mapping[str, str] = {
    "embedded: one step": "embedded_one_step.safetensors",
    "embedded: one step, v1": "embedded_student.safetensors",
}
"""Weights whose receptive field is finite, as the loader names them."""
ARITHMETIC: Mapping[str, str] = {
    "embedded_one_step.safetensors": "embedded one step",
    "embedded_student.safetensors": "embedded teacher",
}
"""Names of these networks in `sampling.network_cost.COUNTED`."""
SCALE = 4
NO_FIX = "none"
PRESET_FIXES: Mapping[str, str] = {"Fast": NO_FIX, "Balanced": "wavelet"}
"""Colour fixes of the node Upscale by presets of a single pass."""


@dataclass(frozen=True)
class BlockRecipe:
    """What the workflow does with a picture, as plain values."""

    weights: str
    color_fix: str = NO_FIX
    levels: int = 5

    @property
    def global_fix(self) -> ColorFix | None:
        """The colour fix, if it takes statistics of the whole picture: it is made when all blocks are there."""
        return global_fix(self.color_fix)

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """Of a block's values: 16 bits where colours are fixed later, so that nothing is rounded twice."""
        return np.uint8 if self.global_fix is None else np.uint16


class CannotCutError(ValueError):
    """Pictures of a workflow cannot be cut; the message says why."""


def recipe_of(prompt: Prompt) -> BlockRecipe:
    """The recipe of a prompt in API form that is cut down to its result; CannotCutError for what leaves a trace."""
    from ...imaging.color import ColorFix  # noqa: PLC0415

    result = next(node for node in prompt.values() if node["class_type"] in RESULTS)
    node, fix, levels = _source(prompt, result, "images"), NO_FIX, 5
    if node["class_type"] == "AdaptiveSRWaveletColorFix":
        reference = _source(prompt, node, "reference")
        if reference["class_type"] != "LoadImage":
            raise CannotCutError("the reference of Wavelet Color Fix is not the picture itself")
        fix, levels = node["inputs"]["mode"], int(node["inputs"].get("levels", 5))
        node = _source(prompt, node, "image")
    is_box = node["class_type"] == "AdaptiveSRAdaptiveUpscale"
    if not is_box and node["class_type"] != "AdaptiveSROneStepDistilledSR":
        raise CannotCutError(
            f"the result comes from {node['class_type']}, whose regions see more than their surroundings"
        )
    own_fix = _fix_of_preset(node) if is_box else node["inputs"].get("color_fix", NO_FIX)
    if NO_FIX not in (fix, own_fix):
        raise CannotCutError("it fixes the colours twice")
    fix = own_fix if fix == NO_FIX else fix
    known = (NO_FIX, *(one.value for one in ColorFix))
    if fix not in known:
        raise CannotCutError(f"the colour fix {fix} is not known: expected {', '.join(known)}")
    wanted = {"scale": (SCALE,), "width": (0,), "height": (0,), "steps": (0, 1)}
    for name, values in wanted.items():
        if node["inputs"].get(name, values[0]) not in values:
            raise CannotCutError(
                f"{name} is {node['inputs'][name]}, which needs the whole picture: expected {values[0]}"
            )
    if _source(prompt, node, "image")["class_type"] != "LoadImage":
        raise CannotCutError("something changes the picture before it is upscaled")
    if is_box:
        return BlockRecipe(next(iter(WEIGHTS.values())), fix, levels)
    loader = _source(prompt, node, "one_step_sr")
    name = loader["inputs"].get("model_name")
    if loader["class_type"] != "AdaptiveSRLoadOneStepSR" or name not in WEIGHTS:
        raise CannotCutError(f"the weights {name!r} see the whole tile: expected {' or '.join(map(repr, WEIGHTS))}")
    return BlockRecipe(WEIGHTS[name], fix, levels)


def _fix_of_preset(node: Mapping[str, Any]) -> str:
    """The colour fix of a node Upscale that makes one step with the embedded weights."""
    others = [name for name in ("model", "one_step_sr") if name in node["inputs"]]
    if others:
        raise CannotCutError(f"Upscale has {others[0]} connected: alone, with the embedded weights, it is cut")
    preset = node["inputs"].get("preset")
    if preset not in PRESET_FIXES:
        raise CannotCutError(f"the preset {preset!r} of Upscale averages turned pictures: expected Fast or Balanced")
    return PRESET_FIXES[preset]


def _source(prompt: Prompt, node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The node behind an input."""
    value = node["inputs"].get(name)
    if not isinstance(value, list) or str(value[0]) not in prompt:
        raise CannotCutError(f"nothing is connected to {name} of {node['class_type']}")
    return prompt[str(value[0])]


def upscaler_for(recipe: BlockRecipe, seed: int, device: str) -> BlockUpscaler:
    """The embedded network and what goes with it, in float32."""
    import torch  # noqa: PLC0415

    from ...imaging.color import ColorFix  # noqa: PLC0415
    from ...models.pixel_autoencoder import PixelAutoencoder  # noqa: PLC0415
    from ...sampling.tiled.one_step_blocks import BlockSettings, BlockUpscaler  # noqa: PLC0415
    from ...training.tad_sr.base import schedule_of  # noqa: PLC0415
    from ..bench.parts.restorers import load_denoiser  # noqa: PLC0415

    network: Any = load_denoiser(ROOT / "models" / "weights" / recipe.weights).to(device)
    fix = None if recipe.color_fix == NO_FIX or recipe.global_fix else ColorFix(recipe.color_fix)

    class EmbeddedDenoiser:
        lq_factor, size_multiple = network.config.lq_factor, network.config.size_multiple

        def __call__(
            self, x: torch.Tensor, timesteps: torch.Tensor, lq: torch.Tensor, *, full_precision: bool = False
        ) -> torch.Tensor:
            return network(x, timesteps, lq)

    return BlockUpscaler(
        EmbeddedDenoiser(),
        PixelAutoencoder(),
        schedule_of(network),
        network.config.receptive_field,
        BlockSettings(seed, fix, recipe.levels),
    )


class BlockWorker:
    """Upscales blocks in this process; `Worker`'s shape."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._upscalers: dict[int, BlockUpscaler] = {}

    def __enter__(self) -> BlockWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ready(self) -> dict[str, Any]:
        """Nothing is to be started."""
        return {"url": "", "pid": None, "left_out": {}}

    def process(self, job: PictureJob) -> PictureOutcome:
        """A block: `job.content` are the 8-bit pixels of its outer rectangle, `job.place` both rectangles and the picture's size."""
        import torch  # noqa: PLC0415

        from ...imaging.tiles import Core, Region  # noqa: PLC0415

        assert self.spec.recipe is not None
        device = "cuda" if torch.cuda.is_available() and "--cpu" not in self.spec.options else "cpu"
        recipe = BlockRecipe(**self.spec.recipe)
        if job.seed not in self._upscalers:
            self._upscalers = {job.seed: upscaler_for(recipe, job.seed, device)}
        inner, outer, size = Region(*job.place[:4]), Region(*job.place[4:8]), job.place[8:10]
        started = time.monotonic()
        levels = np.frombuffer(job.content, np.uint8).reshape(outer.height, outer.width, 3)
        with threads(self.spec.threads), torch.inference_mode():
            rgb = torch.from_numpy(levels.astype(np.float32) / 255).movedim(2, 0)[None].to(device)
            found = self._upscalers[job.seed](rgb, Core(inner, outer), (size[0], size[1]))
            pixels = in_levels(found[0].movedim(0, 2), recipe.dtype)
        large = inner.scaled(SCALE)
        return PictureOutcome(
            job.name,
            DONE,
            image=pixels.tobytes(),
            size=(inner.width, inner.height),
            result_size=(large.width, large.height),
            seconds=round(time.monotonic() - started, 3),
            calls=1,
            peak_bytes=peak_memory(),
        )


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """While open, torch computes with this many threads (0: as many as before); in one process with others, theirs come back."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_levels(pixels: Tensor, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray[Any, Any]:
    """Values of [0, 1] as integers; the 8 bits of pictures are cut off, as the host's Save Image does."""
    if dtype is np.uint8:
        return pixels.mul(255).byte().cpu().numpy()
    return pixels.mul(np.iinfo(dtype).max).add(0.5).cpu().numpy().astype(dtype)


def worker_for(spec: WorkerSpec) -> Worker | BlockWorker:
    """What a specification describes."""
    return Worker(spec) if spec.recipe is None else BlockWorker(spec)


def peak_memory() -> int:
    """The most that this process has held, in bytes; 0 where the system does not tell."""
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415  (not on Windows)

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    return 0


@dataclass(frozen=True)
class Block:
    """A part of a picture, under the name that the lines of a run call it.

    core: what it adds to the picture, in what a worker gets. kept: the pixels of its file, which reach beyond the inner ones where blocks are blended.
    dtype: of the values in its file.
    """

    name: str
    core: Core
    kept: Region
    file: Path
    dtype: type[np.unsignedinteger[Any]] = np.uint8

    @property
    def scale(self) -> int:
        """Output pixels per pixel, by the size of the file."""
        return math.isqrt(self.file.stat().st_size // (3 * self.kept.area * np.dtype(self.dtype).itemsize))

    @property
    def white(self) -> int:
        """The value that stands for 1."""
        return int(np.iinfo(self.dtype).max)

    def pixels(self) -> np.ndarray[Any, Any]:
        """Of its file (scale * kept height, scale * kept width, 3), mapped from the disk."""
        kept = self.kept.scaled(self.scale)
        return np.memmap(self.file, self.dtype, "r", shape=(kept.height, kept.width, 3))


class BlockStore:
    """Results of blocks as files; what `Dispatcher` asks of a store."""

    def record(self, block: Block) -> dict[str, Any] | None:
        """Of a block whose file is there."""
        known = {"name": block.name, "status": DONE, "peak_bytes": 0, "calls": None, "tflop": None}
        return known if block.file.is_file() else None

    def save(self, block: Block, outcome: PictureOutcome, worker: str) -> dict[str, Any]:
        """Writes a block's pixels, whole or not at all."""
        if outcome.status == DONE:
            block.file.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace_file(block.file, lambda place: place.write_bytes(outcome.image))
        work = {"peak_bytes": outcome.peak_bytes, "calls": outcome.calls, "tflop": outcome.tflop}
        return {"name": block.name, "status": outcome.status, "error": outcome.error, **work}


def read_levels(picture: Picture) -> np.ndarray[Any, Any]:
    """Pixels (H, W, 3) of 8 bits of a picture of any size; UnreadableError for what is none."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(picture.path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableError(f"cannot be read as a picture ({str(error)[:150]})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def pixels_in(picture: Picture) -> int:
    """How many a picture has by its head; 0 if it is no picture."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(picture.path) as image:
            return image.width * image.height
    except (OSError, ValueError, SyntaxError):
        return 0
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def blocks_of(
    picture: Picture,
    folder: Path,
    size: tuple[int, int],
    side: int,
    halo: int,
    dtype: type[np.unsignedinteger[Any]] = np.uint8,
) -> list[Block]:
    """All blocks of a picture of (height, width), and where each is kept; another file or another cut is another place."""
    from ...sampling.tiled.one_step_blocks import cut  # noqa: PLC0415

    place = folder / f"{side} {halo} {np.dtype(dtype).name}"
    return [replace(named(picture, place, core, core.inner), dtype=dtype) for core in cut(*size, side, halo)]


def named(picture: Picture, folder: Path, core: Core, kept: Region) -> Block:
    """A block of a picture, and where it is kept; another file or another folder is another place."""
    mark = hashlib.blake2b(f"{picture.name} {picture.stamp} {folder.name}".encode(), digest_size=8).hexdigest()
    place = f"{core.inner.y}_{core.inner.x}"
    return Block(f"{picture.name} y {core.inner.y} x {core.inner.x}", core, kept, folder.parent / mark / f"{place}.rgb")


def clear(blocks: Sequence[Block]) -> None:
    """Removes the files of the blocks."""
    shutil.rmtree(blocks[0].file.parent, ignore_errors=True)


@dataclass(frozen=True)
class ExactCut:
    """A cut that leaves no trace, into blocks of `side` pixels that `BlockWorker`s upscale by a recipe."""

    recipe: BlockRecipe
    side: int

    def spec(self, spec: WorkerSpec) -> WorkerSpec:
        """Of its workers, from that of a run's."""
        return replace(spec, recipe=asdict(self.recipe), url=None, metrics=())

    def keeper(self) -> BlockStore:
        """Of its blocks."""
        return BlockStore()

    def parts(self, picture: Picture, folder: Path, size: tuple[int, int]) -> tuple[list[Block], str]:
        """All blocks of a picture of (height, width), and words about them."""
        halo = upscaler_for(self.recipe, 0, "cpu").halo
        found = blocks_of(picture, folder, size, self.side, halo, self.recipe.dtype)
        return found, f"blocks of {self.side}, {halo} pixels around each"

    def colors(self, levels: np.ndarray[Any, Any]) -> GlobalColorFix | None:
        """The colour fix that is made when all blocks of a picture (H, W, 3) are there."""
        mode = self.recipe.global_fix
        return None if mode is None else GlobalColorFix(mode, levels)

    def probe(self, parts: Sequence[Block]) -> Sequence[Block]:
        """Blocks that the others' jobs depend on: none."""
        return ()

    def work(self, parts: Sequence[Block], records: Sequence[Mapping[str, Any]]) -> tuple[int | None, float | None]:
        """Model calls and TFLOP of a picture, whenever its blocks were made."""
        from ...sampling.network_cost import COUNTED  # noqa: PLC0415

        cost = COUNTED[ARITHMETIC[self.recipe.weights]]
        return len(parts), sum(cost(block.core.outer.height, block.core.outer.width) for block in parts) / 1e12

    def jobs(self, parts: Sequence[Block], levels: np.ndarray[Any, Any], seed: int) -> Callable[[Block], PictureJob]:
        """What a worker needs for a block."""

        def job_for(block: Block) -> PictureJob:
            inner, outer = block.core.inner, block.core.outer
            place = [value for region in (inner, outer) for value in (region.y, region.x, region.height, region.width)]
            content = np.ascontiguousarray(levels[outer.slices]).tobytes()
            return PictureJob(block.name, seed, content, place=(*place, *levels.shape[:2]))

        return job_for


def refused(picture: Picture, reason: str) -> PictureOutcome:
    """Of a large picture whose workflow cannot be cut."""
    return PictureOutcome(picture.name, REFUSED, f"is larger than --cut-above, and cannot be cut into blocks: {reason}")
