"""Model folders and files."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import comfy.utils
import folder_paths
import torch

from ..models.state_dict import StateDict, UnsupportedModelError, canonicalize, sound

ONE_STEP = "adaptivesr_one_step"
AUTOENCODER = "adaptivesr_autoencoder"
STABLESR = "adaptivesr_stablesr"
CFW = "adaptivesr_cfw"
NOISE_PREDICTOR = "adaptivesr_noise_predictor"
CONTROLNET = "adaptivesr_controlnet"
GAIN_MODELS = "adaptivesr_gain_models"
LATENT_LPIPS = "adaptivesr_latent_lpips"
AUTO = "auto"
"""A loader's choice of what the file itself says."""

FOLDERS = {
    ONE_STEP: "one_step",
    AUTOENCODER: "autoencoder",
    STABLESR: "stablesr",
    CFW: "cfw",
    NOISE_PREDICTOR: "noise_predictor",
    CONTROLNET: "controlnet",
    GAIN_MODELS: "gain_models",
    LATENT_LPIPS: "latent_lpips",
}
"""Names for `extra_model_paths.yaml`, and the folders under `models/adaptivesr/`."""

TRAINED = (CONTROLNET, ONE_STEP, GAIN_MODELS, NOISE_PREDICTOR, STABLESR, CFW)
"""Kinds that training nodes write."""

EMBEDDED_WEIGHTS = Path(__file__).resolve().parents[1] / "models" / "weights"
EMBEDDED_BASE = "embedded: small base"
"""The base itself, and what is for it."""
EMBEDDED: Mapping[str, Mapping[str, str]] = {
    ONE_STEP: {
        "embedded: one step": "embedded_one_step.safetensors",
        "embedded: teacher, 15 steps": "embedded_teacher.safetensors",
        "embedded: one step, v1": "embedded_student.safetensors",
    },
    GAIN_MODELS: {"embedded: teacher, 15 steps": "embedded_gain.safetensors"},
    CONTROLNET: {EMBEDDED_BASE: "embedded_control.safetensors"},
    STABLESR: {EMBEDDED_BASE: "embedded_stablesr.safetensors"},
}
"""Entries of the loaders for weights that ship with the pack; gain models are named as the base that they are for."""


def register_folders() -> None:
    """Makes our folders known to the host, beside those that the user's `extra_model_paths.yaml` names."""
    for name, folder in FOLDERS.items():
        folder_paths.add_model_folder_path(
            name, os.path.join(folder_paths.models_dir, "adaptivesr", folder), is_default=True
        )
        paths, extensions = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, set(extensions) | folder_paths.supported_pt_extensions)
    for name in TRAINED:
        folder_paths.add_model_folder_path(name, str(trained_folder(name)))


def trained_folder(name: str = CONTROLNET) -> Path:
    """Where training nodes put weights of a kind; offered by the loader beside the models folder, as the host does with LoRAs."""
    return Path(folder_paths.get_output_directory()) / "adaptivesr" / FOLDERS[name]


def list_files(folder: str) -> list[str]:
    """Names of the files in one of our folders."""
    return folder_paths.get_filename_list(folder)


def loader_entries(folder: str) -> list[str]:
    """Choices of a loader: the weights that ship with the pack, and the files of the folder."""
    return [*EMBEDDED.get(folder, ()), *list_files(folder)]


def find_file(folder: str, name: str) -> str:
    """Full path of a loader's entry."""
    if name in EMBEDDED.get(folder, ()):
        return str(EMBEDDED_WEIGHTS / EMBEDDED[folder][name])
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise FileNotFoundError(
            f"'{name}' is not in models/adaptivesr/{FOLDERS[folder]}: expected a file that the list offers; "
            "put it there and press R to refresh the lists."
        )
    return path


OWNERS_FOLDERS = "ADAPTIVESR_FOLDERS"
"""Environment variable by which the host's owner opens further folders to graphs, separated as in PATH."""


def open_folders() -> list[Path]:
    """Folders below which a graph may name files: the host's input, output and models, and those that its owner lists."""
    own = (folder_paths.get_input_directory(), folder_paths.get_output_directory(), folder_paths.models_dir)
    listed = (part for part in os.environ.get(OWNERS_FOLDERS, "").split(os.pathsep) if part)
    return [Path(os.path.abspath(part)) for part in (*own, *listed)]


def allowed_folder(text: str) -> Path:
    """A folder that a graph names, relative to the input folder or absolute; ValueError for one outside of `open_folders`.

    The sentence is the same whether the folder exists: who queues graphs learns nothing of the machine.
    """
    words = text.strip().strip("\"'").strip()
    if "\0" not in words and len(words) < 4096:
        path = Path(os.path.abspath(os.path.join(folder_paths.get_input_directory(), words)))
        if any(path.is_relative_to(folder) for folder in open_folders()):
            return path
    raise ValueError(
        f"Got the folder {words[:200]!r}: expected one below ComfyUI's input, output or models folder. Put the pictures there (a link "
        f"will do), or let the owner of this ComfyUI list the folder in the environment variable {OWNERS_FOLDERS}."
    )


class _TrainingState:
    """Stands in for an object of the training framework that a checkpoint keeps beside its weights: takes anything, does nothing."""

    def __new__(cls, *_args: object, **_options: object) -> _TrainingState:
        return object.__new__(cls)

    def __init__(self, *_args: object, **_options: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


TRAINING_FRAMEWORK = "pytorch_lightning."

ADVICE = "weights_only"
"""What torch's messages about refused files hold: they advise setting it to False, which runs the code in the file."""

BEGINNINGS: Mapping[bytes, str] = {
    b"<": "it is a web page: the address answered with a page in place of the file",
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file itself",
}
"""What often stands under a model's name, by its first bytes in lower case."""


def load_file(path: str) -> StateDict:
    """Tensors of a model file by canonical key, read by the host's safe loader (no code in pickles is run)."""
    return load_described(path)[0]


def load_described(path: str) -> tuple[StateDict, Mapping[str, str] | None]:
    """As `load_file`, with the metadata of a .safetensors file; None where there is none."""
    contents, metadata = _read(path)
    try:
        return canonicalize(contents), metadata
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"'{os.path.basename(path)}': {error}") from error


def read_file(path: str) -> Mapping[str, object]:
    """What a model file holds, as it stands there, read by the host's safe loader."""
    return _read(path)[0]


def _read(path: str) -> tuple[Mapping[str, object], Mapping[str, str] | None]:
    name = os.path.basename(path)
    try:
        contents, metadata = _load(path)
    except Exception as error:  # noqa: BLE001  the host raises whatever it meets
        # The chain of causes goes to the host's log, which must not give torch's advice either.
        cause = None if ADVICE in str(error) else error
        raise UnsupportedModelError(
            f"'{name}' could not be read as a file of tensors ({_reason(path, error)}): expected a complete .safetensors, or a "
            ".pth/.ckpt that holds tensors only; download it again, or convert it to .safetensors."
        ) from cause
    try:
        return sound(contents), metadata
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"'{name}': {error}") from error


def _reason(path: str, error: Exception) -> str:
    """Why a file could not be read; never torch's words about its loader, which advise running the code in the file."""
    said = str(error).strip()
    if said and ADVICE not in said:
        return said.splitlines()[0][:200]
    with open(path, "rb") as file:
        start = file.read(64).lstrip().lower()
    for beginning, what in BEGINNINGS.items():
        if start.startswith(beginning):
            return what
    return "it is damaged, or holds other things than tensors" if said else "it is empty or ends too early"


def _load(path: str) -> tuple[dict[str, object], Mapping[str, str] | None]:
    """The host's answer for a file, and its metadata; a training checkpoint is read with the framework's objects left empty.

    Reading stays weights-only. Names below TRAINING_FRAMEWORK become `_TrainingState` for the time of the call; a file that
    asks for anything else is refused with that name.
    """
    _refuse_unfolding(path)
    try:
        return _contents(path)
    except pickle.UnpicklingError:
        names = _unsafe_names(path)
        if not names:
            raise
    foreign = [name for name in names if not name.startswith(TRAINING_FRAMEWORK)]
    if foreign:
        raise pickle.UnpicklingError(f"it asks for {', '.join(foreign[:3])}, which could run code")
    with torch.serialization.safe_globals([(_TrainingState, name) for name in names]):
        return _contents(path)


LARGEST_PICKLE = 64 << 20
"""Bytes of the list of tensors in a .pth file, which takes some 200 per tensor; and of a packed part that is unpacked unseen."""
MOST_PACKED = 100
"""How many times smaller a part may be packed: weights hardly shrink, and torch packs nothing."""


def _refuse_unfolding(path: str) -> None:
    """ValueError for an archive of kilobytes that would fill the memory when it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # of another form, or damaged: the loader says so
        return
    for part in parts:
        packed = part.file_size > MOST_PACKED * max(1, part.compress_size)
        if part.file_size > LARGEST_PICKLE and (packed or part.filename.endswith(".pkl")):
            raise ValueError(f"its part {part.filename[-60:]!r} unfolds to {part.file_size / 2**20:.0f} MB")


def _contents(path: str) -> tuple[dict[str, object], Mapping[str, str] | None]:
    found = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    return cast("tuple[dict[str, object], Mapping[str, str] | None]", found)


def _unsafe_names(path: str) -> list[str]:
    """Python names that a pickle asks for and the weights-only loader does not know; none for what is no such file."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001  as in _read
        return []
