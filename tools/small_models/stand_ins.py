"""Small files under the names that the shipped workflows give, so that they run as they are: in tests, for pictures of them.

Nothing in the files is learned, see the modules that make them. What a workflow names is read from its API form.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..env.client import Prompt
from .cfw import small_cfw
from .checkpoints import SD1, SD2, Kind, put_whole_checkpoint, small_checkpoint
from .controls import small_tasr_file, small_tile_controlnet
from .stablesr import stablesr_for_small_checkpoint
from .tiny import tiny_noise_predictor

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "workflows" / "api"
PHOTO = ROOT / "tools" / "demo_photo" / "astronaut.png"
PICTURE = "example.png"
"""What Load Image holds in all workflows; a ComfyUI brings one along."""
SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pth", ".pt", ".bin")


def put_stand_ins(prompts: Iterable[Prompt], base: Path) -> None:
    """Writes a small file for every model file that these API workflows load into a host's base directory.

    Raises:
        ValueError: nothing here makes such a file.
    """
    for class_type, input_name, file in sorted(model_files(prompts)):
        maker = MAKERS.get((class_type, input_name))
        if maker is None:
            raise ValueError(f"No stand-in for {file!r} of {class_type}.{input_name}: add it to MAKERS.")
        maker(base / "models", file)


def put_for_shipped_workflows(base: Path) -> None:
    """Everything that the shipped workflows load, pictures too, so that each runs from the page of a host as it is."""
    put_stand_ins((json.loads(file.read_text(encoding="utf-8")) for file in sorted(API.glob("*.json"))), base)
    shutil.copy(PHOTO, base / "input" / PICTURE)


def model_files(prompts: Iterable[Prompt]) -> set[tuple[str, str, str]]:
    """(node class, input, file name) of every model file that is named in a workflow."""
    return {
        (node["class_type"], name, value)
        for prompt in prompts
        for node in prompt.values()
        for name, value in node["inputs"].items()
        if isinstance(value, str) and value.endswith(SUFFIXES)
    }


def _kind_of(name: str) -> Kind:
    return SD1 if "v1-5" in name or "sd15" in name else SD2


def _checkpoint(models: Path, name: str) -> None:
    put_whole_checkpoint(models.parent, name, _kind_of(name))


def _control(models: Path, name: str) -> None:
    _save(small_tile_controlnet(kind=_kind_of(name)), models / "controlnet" / name)


def _tasr(models: Path, name: str) -> None:
    _save(small_tasr_file(), models / "adaptivesr" / "controlnet" / name)


def _stablesr(models: Path, name: str) -> None:
    """Parts and their base, as the published checkpoints are; the text encoder's tensors share the zeros of the largest."""
    shapes = {key: torch.Size(shape) for key, shape in SD2.text_encoder()}
    zeros = torch.zeros(max(shape.numel() for shape in shapes.values())).half()
    text = {key: zeros[: shape.numel()].view(shape) for key, shape in shapes.items()}
    weights = {**small_checkpoint(), **text, **stablesr_for_small_checkpoint()}
    _save({"state_dict": weights}, models / "adaptivesr" / "stablesr" / name)


def _cfw(models: Path, name: str) -> None:
    _save(small_cfw(), models / "adaptivesr" / "cfw" / name)


def _noise_predictor(models: Path, name: str) -> None:
    _save(tiny_noise_predictor(), models / "adaptivesr" / "noise_predictor" / name)


def _save(weights: Mapping[str, object], path: Path) -> None:
    """As the ending says: tensors, or what torch.save makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)


MAKERS: Mapping[tuple[str, str], Callable[[Path, str], None]] = {
    ("CheckpointLoaderSimple", "ckpt_name"): _checkpoint,
    ("ControlNetLoader", "control_net_name"): _control,
    ("AdaptiveSRLoadTimeAwareControlNet", "control_name"): _tasr,
    ("AdaptiveSRLoadStableSR", "model_name"): _stablesr,
    ("AdaptiveSRLoadCFW", "cfw_name"): _cfw,
    ("AdaptiveSRLoadNoisePredictor", "model_name"): _noise_predictor,
}
