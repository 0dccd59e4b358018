"""Damaged model files against every loader, each in a process of its own."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..env.environment import ROOT
from ..small_models.cfw import small_cfw
from ..small_models.controls import small_adapters, small_latent_controlnet
from ..small_models.resshift import small_teacher, small_vq
from ..small_models.stablesr import stablesr_for_small_checkpoint
from ..small_models.tiny import tiny_noise_predictor
from .damage import damaged
from .isolation import outcome_of
from .outcomes import Outcomes

WEIGHTS = ROOT / "models" / "weights"
CONTROL, TEACHER = "control_good.safetensors", "rs_s4_good.safetensors"


@dataclass(frozen=True)
class Base:
    """A sound file, where it belongs, and what uses it by its name; the answer is a word."""

    tensors: Mapping[str, Tensor]
    folder: str
    use: Callable[[str], str]
    metadata: Mapping[str, str] | None = None


def bases(models: Path) -> dict[str, Base]:
    """One of every kind; files that some kinds need beside them are put below models. The host is to be entered before."""
    from ...host.control.choices import FROM_THE_CONTROLNET_FILE  # noqa: PLC0415  needs the host
    from ...host.control.controlnet import load_time_aware_control  # noqa: PLC0415  needs the host
    from ...host.gains.models import load_gain_models  # noqa: PLC0415
    from ...host.invsr.loading import load_noise_predictor  # noqa: PLC0415
    from ...host.stablesr.cfw import load_cfw  # noqa: PLC0415
    from ...host.stablesr.loading import load_stablesr  # noqa: PLC0415

    control, teacher, gain = small_latent_controlnet(), small_teacher(), WEIGHTS / "embedded_gain.safetensors"
    for folder, name, tensors in (("controlnet", CONTROL, control), ("one_step", TEACHER, teacher)):
        (models / folder).mkdir(parents=True, exist_ok=True)
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, models / folder / name)
    with safe_open(gain, framework="pt") as file:
        metadata = file.metadata()
    (models / "autoencoder").mkdir(exist_ok=True)
    save_file(small_vq(), models / "autoencoder" / "vq_good.safetensors")

    def loaded(load: Callable[[str], object]) -> Callable[[str], str]:
        def use(name: str) -> str:
            load(name)
            return "loaded"

        return use

    student = load_file(WEIGHTS / "embedded_student.safetensors")
    return {
        "student": Base(student, "one_step", _upscaled),
        "denoiser": Base(teacher, "one_step", _upscaled),
        "autoencoder": Base(small_vq(), "autoencoder", _coded),
        "gain models": Base(load_file(gain), "gain_models", loaded(load_gain_models), metadata),
        "stablesr": Base(dict(stablesr_for_small_checkpoint()), "stablesr", loaded(load_stablesr)),
        "cfw": Base(small_cfw(), "cfw", loaded(load_cfw)),
        "noise predictor": Base(tiny_noise_predictor(), "noise_predictor", loaded(load_noise_predictor)),
        "control": Base(
            control, "controlnet", loaded(lambda name: load_time_aware_control(name, FROM_THE_CONTROLNET_FILE))
        ),
        "adapters": Base(small_adapters(), "controlnet", loaded(lambda name: load_time_aware_control(CONTROL, name))),
    }


def _upscaled(name: str) -> str:
    from ...host.images import join_image  # noqa: PLC0415  needs the host
    from ...host.resshift.loading import load_one_step  # noqa: PLC0415
    from ...host.resshift.upscale import UpscaleSettings, upscale_rgb  # noqa: PLC0415

    rgb = torch.linspace(0, 1, 12 * 16 * 3).reshape(1, 3, 12, 16)
    with torch.inference_mode():
        made = join_image(upscale_rgb(load_one_step(name), rgb, (64, 48), UpscaleSettings(1, True, 64, 8))[0])
    return "ran" if bool(torch.isfinite(made).all()) else "BAD picture: NaN without a word"


def _coded(name: str) -> str:
    from ...host.resshift.loading import load_one_step  # noqa: PLC0415  needs the host

    vae = load_one_step(TEACHER, autoencoder=name).vae
    with torch.inference_mode():
        made = vae.decode(vae.encode(torch.linspace(0, 1, 64 * 64 * 3).reshape(1, 64, 64, 3)))
    return "ran" if bool(torch.isfinite(made).all()) else "BAD picture: NaN without a word"


@contextmanager
def models_below(folder: str) -> Iterator[None]:
    """While open, all our model folders lie below that one; the host's own list comes back after."""
    folder_paths = import_module("folder_paths")  # of the host, which has been entered
    from ...host.files import register_folders  # noqa: PLC0415  needs the host

    models, known = folder_paths.models_dir, folder_paths.folder_names_and_paths
    folder_paths.models_dir = folder
    folder_paths.folder_names_and_paths = {name: (list(paths), set(ends)) for name, (paths, ends) in known.items()}
    try:
        register_folders()
        yield
    finally:
        folder_paths.models_dir, folder_paths.folder_names_and_paths = models, known
        folder_paths.filename_list_cache.clear()


def run(count: int, seed: int, case: int | None = None) -> Outcomes:
    """Damages and uses `count` files, or the one of a case; all repeat by seed and case."""
    outcomes = Outcomes("files", seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, models_below(folder):
        models = Path(folder) / "adaptivesr"
        known = bases(models)
        for number in range(count) if case is None else [case]:
            _run_case(number, seed, known, models, outcomes)
    return outcomes


def _run_case(number: int, seed: int, known: Mapping[str, Base], models: Path, outcomes: Outcomes) -> None:
    rng = random.Random(f"{seed} {number}")
    kind = rng.choice(sorted(known))
    base = known[kind]
    try:
        what, data, ending = damaged(base.tensors, base.metadata, rng)
    except (
        RuntimeError,
        TypeError,
        NotImplementedError,
    ):  # a tensor that the damage before has made unfit for this one
        outcomes.add(number, kind, "not made", 0.0)
        return
    path = models / base.folder / f"z_case{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    outcome, seconds = outcome_of(lambda: base.use(path.name))
    outcomes.add(number, f"{kind}, {what}", outcome, seconds)
    path.unlink()
