"""Pictures above a size: each is cut into blocks, which workers take as they finish, and put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from ...training import atomic
from ..env.steps import say
from . import blocks
from .graph import cut_down, is_api_form, to_prompt
from .pictures import Picture, UnreadableError, seed_of
from .run import Dispatcher, Slots
from .store import Store
from .worker import DONE, REFUSED, PictureOutcome, Worker, WorkerSpec

SlotsFor = Callable[[WorkerSpec], AbstractContextManager[tuple[Slots, dict[str, str]]]]


def choose(pictures: Sequence[Picture], megapixels: float) -> list[Picture]:
    """Those with more pixels."""
    return [picture for picture in pictures if blocks.pixels_in(picture) > megapixels * 1e6]


@dataclass
class LargeRun:
    """Where results go and how pictures are cut: blocks of `side` pixels of the input."""

    spec: WorkerSpec
    store: Store
    seed: int
    side: int

    def all(self, pictures: Sequence[Picture], slots_for: SlotsFor) -> dict[str, dict[str, Any]]:
        """Does all of them; records by name. slots_for: the workers of a specification."""
        try:
            recipe = blocks.recipe_of(self._prompt())
        except blocks.NotExactError as error:
            return {picture.name: self._aside(picture, blocks.refused(picture, str(error))) for picture in pictures}
        cut_spec = replace(self.spec, recipe=blocks.as_plain(recipe), url=None, metrics=())
        with slots_for(cut_spec) as (slots, _):
            return {picture.name: self._one(picture, recipe, slots) for picture in pictures}

    def _prompt(self) -> Any:
        """The workflow cut down to its result; a file of the page is read with the help of a ComfyUI."""
        if is_api_form(self.spec.workflow):
            prompt = to_prompt(self.spec.workflow, {})
        else:
            with Worker(replace(self.spec, metrics=())) as worker:
                prompt = to_prompt(self.spec.workflow, worker.definitions())
        return cut_down(prompt, self.spec.changes)[0]

    def _aside(self, picture: Picture, outcome: PictureOutcome) -> dict[str, Any]:
        say(f"{picture.name}: set aside: {outcome.error}")
        return self.store.save(picture, outcome, "-")

    def _one(self, picture: Picture, recipe: blocks.BlockRecipe, slots: Slots) -> dict[str, Any]:
        try:
            levels = blocks.read_levels(picture)
        except UnreadableError as error:
            return self._aside(picture, PictureOutcome(picture.name, REFUSED, str(error)))
        size, seed = (levels.shape[0], levels.shape[1]), seed_of(self.seed, picture.name)
        halo = blocks.upscaler_for(recipe, seed, "cpu").halo
        parts = blocks.blocks_of(picture, self.store.folder / "blocks", size, self.side, halo)
        say(f"{picture.name}: {size[1]}x{size[0]} in {len(parts)} blocks of {self.side}, {halo} pixels around each")
        started = time.monotonic()
        dispatcher = Dispatcher(blocks.BlockStore(), slots, lambda block: blocks.job_for(block, levels, seed))
        dispatcher.run(parts)
        failed = [record for record in dispatcher.records.values() if record["status"] != DONE]
        if failed:
            return self._aside(
                picture, PictureOutcome(picture.name, REFUSED, f"{failed[0]['name']}: {failed[0]['error']}")
            )
        place = self.store.results / f"{picture.result.removesuffix('.png')}.tif"
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(place, lambda file: blocks.assemble(parts, size, file))
        blocks.clear(parts)
        peak = max(record["peak_bytes"] for record in dispatcher.records.values())
        outcome = PictureOutcome(
            picture.name,
            DONE,
            notes=[f"{len(parts)} blocks; the largest worker held {peak / 1e9:.2f} GB; not measured by metrics"],
            size=(size[1], size[0]),
            result_size=(blocks.SCALE * size[1], blocks.SCALE * size[0]),
            seconds=round(time.monotonic() - started, 3),
            calls=len(parts),
        )
        say(
            f"{picture.name}: {outcome.result_size[0]}x{outcome.result_size[1]} in {outcome.seconds:.0f} s; {outcome.notes[0]}"
        )
        return self.store.save_elsewhere(picture, outcome, place)
