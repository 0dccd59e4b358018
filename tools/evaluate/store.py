"""What a run has done, on disk: pictures and a small record for each, so that a second start does the rest and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...training import atomic
from ..env.steps import StepError
from .pictures import Picture
from .worker import DONE, PictureOutcome

FORMAT = 1


class Store:
    """The output folder. A record is written last: a picture without one was not finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results, self.small, self._records = folder / "pictures", folder / "lr", folder / "records"

    def open(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder, or finds in it a run of the same settings; a StepError names the first that differs."""
        wanted = {"format": FORMAT, **settings}
        file = self.folder / "manifest.json"
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise StepError(
                    f"{file} is damaged ({error}): choose another --output, or remove the folder."
                ) from error
            for key, value in wanted.items():
                if found.get(key) != value:
                    raise StepError(
                        f"{self.folder} holds a run with {key} {found.get(key)!r}, now it is {value!r}: choose another --output, or remove "
                        "the folder to begin anew."
                    )
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise StepError(f"{self.folder} is not empty and holds no run: choose a new folder for --output.")
        self._records.mkdir(parents=True, exist_ok=True)
        _write(file, json.dumps(wanted, indent=1, ensure_ascii=False).encode())

    def record(self, picture: Picture) -> dict[str, Any] | None:
        """What was written of a picture; None if it is still to be done: never finished, its result gone, or the file another one."""
        file = self._record_file(picture.name)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if found.get("stamp") != picture.stamp:
            return None
        if found["status"] == DONE and not (self.results / str(found["result"])).is_file():
            return None
        return found

    def save(self, picture: Picture, outcome: PictureOutcome, worker: str) -> dict[str, Any]:
        """Writes a result, then its record."""
        if outcome.status == DONE:
            _write(self.results / picture.result, outcome.image)
            if outcome.small:
                _write(self.small / picture.result, outcome.small)
        return self._note(picture, outcome, worker, picture.result)

    def save_elsewhere(self, picture: Picture, outcome: PictureOutcome, place: Path) -> dict[str, Any]:
        """The record of a result that lies in `place` already."""
        return self._note(picture, outcome, "-", place.relative_to(self.results).as_posix())

    def _note(self, picture: Picture, outcome: PictureOutcome, worker: str, result: str) -> dict[str, Any]:
        record = {
            "name": picture.name,
            "status": outcome.status,
            "error": outcome.error,
            "notes": outcome.notes,
            "result": result if outcome.status == DONE else None,
            "size": list(outcome.size),
            "result_size": list(outcome.result_size),
            "seconds": outcome.seconds,
            "calls": outcome.calls,
            "tflop": outcome.tflop,
            "scores": outcome.scores,
            "worker": worker,
            "stamp": picture.stamp,
        }
        _write(self._record_file(picture.name), json.dumps(record, ensure_ascii=False).encode())
        return record

    def forget(self, picture: Picture) -> None:
        """Lets a picture be done again."""
        self._record_file(picture.name).unlink(missing_ok=True)

    def write(self, name: str, text: str) -> Path:
        """A table of the run."""
        _write(self.folder / name, text.encode("utf-8"))
        return self.folder / name

    def _record_file(self, name: str) -> Path:
        return self._records / f"{name}.json"


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace_file(file, lambda place: place.write_bytes(content))
