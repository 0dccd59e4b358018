"""Files that are whole or not there: written beside their place and moved into it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial"


def partial_of(path: Path) -> Path:
    """The folder in which a file is written before it is moved: one a file, whose writer may put files of its own there."""
    return path.with_name(path.name + PARTIAL)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets write(place) make the file, then moves it to path; whatever goes wrong, path holds what it held before."""
    partial = partial_of(path)
    partial.mkdir(parents=True, exist_ok=True)
    place = partial / "file"  # without an ending: loaders list none that is half written
    try:
        write(place)
        place.replace(path)
    finally:
        sweep(path)


def sweep(path: Path) -> None:
    """Removes what a killed run left of a file that it was writing."""
    shutil.rmtree(partial_of(path), ignore_errors=True)


def sweep_old(folder: Path, older_than: float) -> None:
    """Removes what killed runs have left half written in a folder, if that is so many seconds old; claims, which are empty, stay."""
    for partial in folder.glob(f"*{PARTIAL}"):
        with suppress(OSError):
            times = [place.stat().st_mtime for place in partial.iterdir()]
            if times and time.time() - max(times) > older_than:
                shutil.rmtree(partial)


def claim(path: Path) -> bool:
    """Takes a file's name for this process, by making the place where it will be written; False if another has it."""
    try:
        partial_of(path).mkdir()
    except FileExistsError:
        return False
    return True
