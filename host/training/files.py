"""Files of training runs: resumable states and trained weights, both below the host's output folder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import folder_paths
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...training.atomic import claim, replace_file, sweep_old
from ...training.config import START_ANEW
from ...training.image_folder import image_files
from ..files import CFW as CFW_FILES
from ..files import CONTROLNET, GAIN_MODELS, NOISE_PREDICTOR, ONE_STEP, allowed_folder, trained_folder
from ..files import STABLESR as STABLESR_FILES
from ..images import check_room, split_image

LONGEST_NAME = 120
"""Bytes: file systems take 255, and numbers, steps and endings are added."""


PROBE = 1 << 16
"""Bytes that are written to see whether a folder takes any."""
DAY = 86400.0


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Puts what a full disk or a folder without the right to write raises into a sentence that names no place of the machine."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "no room, or no right to write"
        raise ValueError(
            f"{what} could not be written ({reason}): expected a folder 'adaptivesr' below ComfyUI's output folder that can be written, "
            "and room on its disk."
        ) from error


def check_disk(needed: int) -> None:
    """ValueError where the disk of the output folder has less room than a run's states and weights will take."""
    free = shutil.disk_usage(states_folder()).free
    if free < needed:
        raise ValueError(
            f"The disk of ComfyUI's output folder has {free / 2**30:.2f} GB left, and this run saves about {needed / 2**30:.2f} GB: "
            "expected more room; remove files there."
        )


def states_folder() -> Path:
    """Where resumable runs lie, with the tables of their losses."""
    return Path(folder_paths.get_output_directory()) / "adaptivesr" / "training"


@dataclass(frozen=True)
class RunFiles:
    """Files of one kind of run: how its states end, and the folder of its trained weights."""

    ending: str
    kind: str

    def states(self) -> list[str]:
        """Names of the runs that can be resumed."""
        return sorted(path.name.removesuffix(self.ending) for path in states_folder().glob(f"*{self.ending}"))

    def state_path(self, run: str) -> Path:
        """The state of a run by its name."""
        return states_folder() / f"{run}{self.ending}"

    def saved_state(self, run: str) -> Path:
        """The state of a run that the list offers; linked values come here unchecked."""
        if run not in self.states():
            raise ValueError(
                f"There is no saved run {run[:80]!r} of this training: expected one that the list 'resume' offers, or {START_ANEW!r}."
            )
        return self.state_path(run)

    def free_name(self, name: str) -> str:
        """name_00001 and on: a run never writes over another's files."""
        # Weights of one-step models begin with what their loader reads off names.
        own = re.compile(rf"(?:[a-z]+_s\d+_)?{re.escape(name)}_(\d{{5}})")
        files = [*states_folder().glob("*"), *trained_folder(self.kind).glob("*")]
        taken = {int(match[1]) for match in (own.match(path.name) for path in files) if match}
        return f"{name}_{next(number for number in count(1) if number not in taken):05}"

    def check_start(self, name: str, batch: int = 1, side: int = 1) -> None:
        """Refuses, before the first step, a name that no file can have, crops that fill the memory, and folders that cannot be written."""
        check_name(name)
        check_room(batch, side, side, "a smaller batch_size or crop_size")
        for folder in (states_folder(), trained_folder(self.kind)):
            with writing("Files of this run"):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(bytes(PROBE))
        sweep_old(states_folder(), DAY)

    def claim(self, name: str) -> str:
        """A free name that is this process's alone from now on."""
        while True:
            chosen = self.free_name(name)
            with writing("The state of this run"):
                states_folder().mkdir(parents=True, exist_ok=True)
                if claim(self.state_path(chosen)):
                    return chosen

    def weights_path(self, name: str) -> Path:
        """Where trained weights go, in a folder that exists."""
        folder = trained_folder(self.kind)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.safetensors"

    def save_weights(self, name: str, weights: Mapping[str, Tensor], header: Mapping[str, str]) -> Path:
        """Writes trained weights where their loader offers them."""
        path, tensors = self.weights_path(name), {key: value.contiguous() for key, value in weights.items()}
        with writing("The trained weights"):
            replace_file(path, lambda place: save_file(tensors, place, metadata=dict(header)))
        return path


DISTILL = RunFiles(".distill.safetensors", ONE_STEP)
TASR = RunFiles(".state.safetensors", CONTROLNET)
MMLE = RunFiles(".mmle-state.safetensors", GAIN_MODELS)
PFJ = RunFiles(".pfj-state.safetensors", GAIN_MODELS)
INVSR = RunFiles(".invsr-state.safetensors", NOISE_PREDICTOR)
NO_LPIPS = "(none)"
"""In the place of a file of models/adaptivesr/latent_lpips."""
STABLESR = RunFiles(".stablesr-state.safetensors", STABLESR_FILES)
CFW = RunFiles(".cfw-state.safetensors", CFW_FILES)


def save_picture(path: Path, picture: Tensor) -> None:
    """Writes a PNG of (1, 3, H, W) in [0, 1]."""
    image = Image.fromarray((picture[0].permute(1, 2, 0) * 255).round().byte().numpy())
    with writing("A picture of this run"):
        replace_file(path, lambda place: image.save(place, "PNG"))


def below_output(path: Path) -> str:
    """A path as users see it: from the output folder on."""
    return path.relative_to(folder_paths.get_output_directory()).as_posix()


def folder_state(folder: str) -> str:
    """Changes when pictures of a folder or the texts beside them come, go or change; for a node's cache."""
    if not folder.strip():
        return ""
    try:
        files = image_files(allowed_folder(folder))
    except ValueError as error:
        return str(error)
    stamps = [
        (str(path), path.stat().st_mtime_ns)
        for file in files
        for path in (file, file.with_suffix(".txt"))
        if path.is_file()
    ]
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def check_name(name: str) -> None:
    """ValueError unless it can be the start of a file's name."""
    if not re.fullmatch(r"[\w-][\w.-]*", name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"Got the name {name[:80]!r}: expected letters, digits, '.', '-' and '_', not a '.' first, and at most {LONGEST_NAME} "
            "bytes, for a file's name."
        )


def fingerprint_of(picture: Tensor) -> str:
    """Tells pictures of an IMAGE apart; for the key of a cache."""
    return f"{tuple(picture.shape)} {float(picture.float().mean()):.9g} {float(picture.float().std()):.9g}"


def pictures_of(folder: str, image: Tensor | None) -> Sequence[Path | Tensor]:
    """Files of a folder, else the pictures of an IMAGE; ValueError where there is neither or both."""
    if folder.strip() and image is not None:
        raise ValueError("Got a folder and images: expected one of them; clear image_folder or disconnect images.")
    if image is not None:
        return list(split_image(image, "images")[0].cpu().clone())
    if not folder.strip():
        raise ValueError("Got neither a folder nor images: write the path of a folder of pictures, or connect images.")
    return image_files(allowed_folder(folder))
