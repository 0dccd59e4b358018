"""Small ResShift-type networks for distillation on the real host."""

from pathlib import Path

import pytest
import torch
from adaptivesr.tools.small_models.resshift import SMALL_TEACHER, SMALL_VQ, put_small_resshift


@pytest.fixture(scope="module")
def base(comfy):
    """The host's base folder with small files."""
    import folder_paths

    path = Path(folder_paths.base_path if comfy is None else folder_paths.models_dir).parent
    put_small_resshift(path)
    yield path
    for file in (
        f"one_step/{SMALL_TEACHER}",
        f"autoencoder/{SMALL_VQ}",
    ):  # other tests count what lies in these folders
        (path / "models" / "adaptivesr" / file).unlink()


@pytest.fixture(scope="module")
def teachers(comfy, base):
    """ONE_STEP_SR of a small teacher of each family, loaded as a graph loads them."""
    load = comfy.node("AdaptiveSRLoadOneStepSR").execute
    with torch.inference_mode():
        return {
            "pixel": load("tiny_teacher.safetensors", "auto", "auto").args[0],
            "unet": load(SMALL_TEACHER, SMALL_VQ, "auto").args[0],
            "student": load("tiny_student.safetensors", "auto", "auto").args[0],
        }
