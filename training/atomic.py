"""Files that are whole or not there: written beside their place and moved into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial"


def partial_of(path: Path) -> Path:
    """Where a file is written before it is moved: one place a file, so that a killed run leaves one at most."""
    return path.with_name(path.name + PARTIAL)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets write(place) make the file, then moves it to path; whatever goes wrong, path holds what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Removes what a killed run left of a file that it was writing."""
    partial_of(path).unlink(missing_ok=True)


def sweep_old(folder: Path, older_than: float) -> None:
    """Removes what killed runs have left half written in a folder, if that is so many seconds old; claims, which are empty, stay."""
    for place in folder.glob(f"*{PARTIAL}"):
        with suppress(OSError):
            found = place.stat()
            if found.st_size and time.time() - found.st_mtime > older_than:
                place.unlink()


def claim(path: Path) -> bool:
    """Takes a file's name for this process, by making the place where it will be written; False if another has it."""
    try:
        with partial_of(path).open("x"):
            return True
    except FileExistsError:
        return False
