"""Pictures above a size: each is cut into blocks, which workers take as they finish, and put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from ...training import atomic
from ..env.client import Prompt
from ..env.steps import say
from . import blocks, overlapping
from .assemble import assemble
from .graph import cut_down, is_api_form, to_prompt
from .pictures import Picture, UnreadableError, seed_of
from .run import Dispatcher, Slots
from .store import Store
from .worker import DONE, REFUSED, PictureOutcome, Worker, WorkerSpec

Cut = blocks.ExactCut | overlapping.OverlappingCut
SlotsFor = Callable[[WorkerSpec], AbstractContextManager[tuple[Slots, dict[str, str]]]]


def choose(pictures: Sequence[Picture], megapixels: float) -> list[Picture]:
    """Those with more pixels."""
    return [picture for picture in pictures if blocks.pixels_in(picture) > megapixels * 1e6]


@dataclass
class LargeRun:
    """Where results go and how pictures are cut: blocks of `side` pixels of the input; `halo` more around each where they are cross-faded."""

    spec: WorkerSpec
    store: Store
    seed: int
    side: int
    halo: int

    def all(self, pictures: Sequence[Picture], slots_for: SlotsFor) -> dict[str, dict[str, Any]]:
        """Does all of them; records by name. slots_for: the workers of a specification."""
        try:
            cut = self._cut(self._prompt())
        except blocks.CannotCutError as error:
            return {picture.name: self._aside(picture, blocks.refused(picture, str(error))) for picture in pictures}
        with slots_for(cut.spec(self.spec)) as (slots, _):
            return {picture.name: self._one(picture, cut, slots) for picture in pictures}

    def _cut(self, prompt: Prompt) -> Cut:
        """Without a trace where that can be; CannotCutError where there is no other way either."""
        if any(node["class_type"] == overlapping.SAMPLER for node in prompt.values()):
            overlapping.check(prompt)
            return overlapping.OverlappingCut(prompt, self.side, self.halo)
        return blocks.ExactCut(blocks.recipe_of(prompt), self.side)

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

    def _one(self, picture: Picture, cut: Cut, slots: Slots) -> dict[str, Any]:
        try:
            levels = blocks.read_levels(picture)
        except UnreadableError as error:
            return self._aside(picture, PictureOutcome(picture.name, REFUSED, str(error)))
        size, seed = (levels.shape[0], levels.shape[1]), seed_of(self.seed, picture.name)
        parts, words = cut.parts(picture, self.store.folder / "blocks", size)
        say(f"{picture.name}: {size[1]}x{size[0]} in {len(parts)} {words}")
        started, records = time.monotonic(), dict[str, dict[str, Any]]()
        for some in (cut.probe(parts), parts):
            dispatcher = Dispatcher(cut.keeper(), slots, cut.jobs(parts, levels, seed))
            dispatcher.run(some)
            records = dispatcher.records | records  # the first block is found as done the second time
            failed = [record for record in records.values() if record["status"] != DONE]
            if failed:
                why = f"{failed[0]['name']}: {failed[0]['error']}"
                return self._aside(picture, PictureOutcome(picture.name, REFUSED, why))
        place = self.store.results / f"{picture.result.removesuffix('.png')}.tif"
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(place, lambda file: assemble(parts, size, file, cut.colors(levels)))
        scale = parts[0].scale
        blocks.clear(parts)
        peak = max(record["peak_bytes"] for record in records.values())
        calls, tflop = cut.work(parts, list(records.values()))
        notes = [f"{len(parts)} {words}", *([f"the largest worker held {peak / 1e9:.2f} GB"] if peak else [])]
        outcome = PictureOutcome(
            picture.name,
            DONE,
            notes=["; ".join([*notes, "not measured by metrics"])],
            size=(size[1], size[0]),
            result_size=(scale * size[1], scale * size[0]),
            seconds=round(time.monotonic() - started, 3),
            calls=calls,
            tflop=tflop,
        )
        say(
            f"{picture.name}: {outcome.result_size[0]}x{outcome.result_size[1]} in {outcome.seconds:.0f} s; {outcome.notes[0]}"
        )
        return self.store.save_elsewhere(picture, outcome, place)
