"""The weights that ship with the pack keep their promise: nearer to the truth than bicubic, sharper than regression."""

from pathlib import Path

import kornia
import numpy as np
import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.pixel_autoencoder import PixelAutoencoder
from adaptivesr.sampling.schedules import ResidualShiftSchedule
from adaptivesr.sampling.tiled.one_step_sr import Chain, Tiling, upscale
from adaptivesr.tools.embedded_weights.degrade_mild import CLEAN, Degradation, degrade
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
MILD = Degradation(blur=(1.2, 1.2), noise=4.0, jpeg_quality=75)
DEGRADATIONS = {"clean": CLEAN, "mild": MILD}
BUNDLED_MARGIN_DB = {"clean": 1.0, "mild": 0.4}
HELD_OUT_MARGIN_DB = {"clean": 0.6, "mild": 0.3}
# No setting was compared on these; on the bundled photo some were.
HELD_OUT = ("coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png")


class Shipped:
    """A Denoiser around a shipped file."""

    lq_factor = size_multiple = 1

    def __init__(self, path: Path):
        tensors = load_file(path)
        self.network = registry.build(registry.identify(tensors))
        self.network.load_state_dict(tensors)
        self.network.requires_grad_(False)
        levels = tuple(self.network.sqrt_etas.tolist())
        self.schedule = ResidualShiftSchedule(levels, float(self.network.kappa), tuple(range(len(levels))))

    def __call__(self, x, timesteps, lq, *, full_precision=False):
        return self.network(x, timesteps, lq)


class Quiet:
    def step(self, rows):
        pass

    def is_out_of_memory(self, error):
        return False


@pytest.fixture(scope="module")
def student():
    return Shipped(ROOT / "models" / "weights" / "embedded_one_step.safetensors")


def as_tensor(image):
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def centre(path, side):
    image = np.asarray(Image.open(path).convert("RGB"))
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def one_step(denoiser, low):
    image, _ = upscale(
        low * 2 - 1,
        denoiser=denoiser,
        autoencoder=PixelAutoencoder(),
        schedule=denoiser.schedule,
        chain=Chain.ONE_STEP,
        seed=0,
        tiling=Tiling(size=256, overlap=32),
        runtime=Quiet(),
    )
    return (image / 2 + 0.5).clamp(0, 1)


def luma_psnr(image, truth):
    a, b = (kornia.color.rgb_to_y(x)[..., 4:-4, 4:-4] for x in (image, truth))
    return float(kornia.metrics.psnr(a, b, 1.0))


def bicubic(low):
    return torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)


def gain_over_bicubic(denoiser, image, how):
    low = as_tensor(degrade(image, how, np.random.default_rng(0)))
    truth = as_tensor(image)
    return luma_psnr(one_step(denoiser, low), truth) - luma_psnr(bicubic(low), truth)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_the_student_beats_bicubic_on_the_bundled_photo(student, name):
    image = centre(ROOT / "tools" / "demo_photo" / "astronaut.png", 256)
    assert gain_over_bicubic(student, image, DEGRADATIONS[name]) > BUNDLED_MARGIN_DB[name]


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_the_student_beats_bicubic_on_photos_it_was_neither_trained_nor_tuned_on(student, name):
    skimage = pytest.importorskip("skimage")
    folder = Path(skimage.__file__).parent / "data"
    paths = [folder / file for file in HELD_OUT if (folder / file).exists()]
    if not paths:
        pytest.skip("this scikit-image carries none of the photos")
    gains = [gain_over_bicubic(student, centre(path, 192), DEGRADATIONS[name]) for path in paths]
    assert sum(gains) / len(gains) > HELD_OUT_MARGIN_DB[name], gains


def test_the_student_is_sharper_than_the_regression_of_the_same_size_but_not_sharper_than_the_truth(student):
    image = centre(ROOT / "tools" / "demo_photo" / "astronaut.png", 256)
    low, truth = as_tensor(degrade(image, CLEAN, np.random.default_rng(0))), as_tensor(image)
    regression = Shipped(ROOT / "tools" / "bench" / "baselines" / "embedded_regression.safetensors")

    def energy(picture):
        luma = kornia.color.rgb_to_y(picture)
        return float(luma.diff(dim=-1).square().sum() + luma.diff(dim=-2).square().sum())

    assert energy(one_step(regression, low)) < energy(one_step(student, low)) < energy(truth)


def test_a_tile_gives_the_untiled_picture_farther_from_its_border_than_the_receptive_field(student):
    image = centre(ROOT / "tools" / "demo_photo" / "astronaut.png", 320)
    lq = as_tensor(degrade(image, CLEAN, np.random.default_rng(0))) * 2 - 1
    radius, network = student.network.config.receptive_field, student.network
    last = torch.tensor([len(network.sqrt_etas) - 1])
    x = torch.randn(1, 48, *lq.shape[-2:], generator=torch.Generator().manual_seed(0))
    tile = (..., slice(20, 70), slice(25, 75))
    inner = (..., slice(radius, 50 - radius), slice(radius, 50 - radius))
    whole, alone = network(x, last, lq)[tile], network(x[tile], last, lq[tile])
    torch.testing.assert_close(alone[inner], whole[inner], rtol=0, atol=1e-5)  # kernels differ with the size
    assert float((alone - whole).abs().max()) > 1e-2


def test_the_former_student_still_loads_and_is_farther_from_the_truth(student):
    former = Shipped(ROOT / "models" / "weights" / "embedded_student.safetensors")
    image = centre(ROOT / "tools" / "demo_photo" / "astronaut.png", 256)
    assert gain_over_bicubic(former, image, CLEAN) < gain_over_bicubic(student, image, CLEAN)


def test_the_shipped_files_know_what_they_are(student):
    teacher = Shipped(ROOT / "models" / "weights" / "embedded_teacher.safetensors")
    assert float(student.network.one_step) == 1 and float(teacher.network.one_step) == 0
    assert student.schedule == teacher.schedule
