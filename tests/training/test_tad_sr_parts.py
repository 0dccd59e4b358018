"""Data, samples and memory of distillation."""

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.imaging.degradation.presets import PRESETS
from adaptivesr.imaging.metrics.named import NamedMetrics
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.models.residual_unet import ResidualUNet, ResidualUNetConfig
from adaptivesr.models.swin import SwinConfig
from adaptivesr.sampling.noise import generator_for
from adaptivesr.training.data import DegradedPairs
from adaptivesr.training.sheets import Trial, sheet
from adaptivesr.training.tad_sr.config import DistillOptions, DistillSettings, paper_settings, variant
from adaptivesr.training.tad_sr.memory import GB, kept_bytes, memory_plan
from adaptivesr.training.tad_sr.samples import measure
from PIL import Image
from torch import nn

PUBLISHED = ResidualUNetConfig(
    3, 160, (160, 320, 320, 640), (2, 2, 2, 2), (True,) * 4, SwinConfig(192, 2, 6, 8, 768), 0, False
)


def pictures(count=3, height=90, width=70):
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(count, 3, 9, 7, generator=generator)
    return list(F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1))


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("preset", ["bicubic", "mild", "tad_sr"])
def test_pairs_fit_together_and_follow_from_the_generator(preset, reduced):
    data = DegradedPairs(pictures(), 64, PRESETS[preset], reduced=reduced)
    hr, lr = data.batch(generator_for(1), 4)
    assert hr.shape == (4, 3, 64, 64) and lr.shape == (4, 3, 16, 16)
    assert hr.min() >= 0 and hr.max() <= 1 and lr.min() >= 0 and lr.max() <= 1
    again = data.batch(generator_for(1), 4)
    assert torch.equal(hr, again[0]) and torch.equal(lr, again[1])
    assert not torch.equal(hr, data.batch(generator_for(2), 4)[0])
    if preset == "bicubic":
        small = F.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
        assert (small - lr).abs().mean() < 0.005


def test_whole_pictures_are_reduced_and_crops_are_not(tmp_path):
    stripes = torch.zeros(3, 128, 128)
    stripes[:, :, ::2] = 1
    Image.fromarray((stripes.permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / "stripes.png")
    whole, crop = (
        DegradedPairs([tmp_path / "stripes.png"], 32, PRESETS["bicubic"], reduced=reduced).batch(generator_for(0), 1)[0]
        for reduced in (True, False)
    )
    assert (whole - 0.5).abs().max() < 1e-6  # four columns each are averaged
    assert (crop - 0.5).abs().min() == 0.5


def test_a_hundredth_of_face_pairs_is_grey_on_both_sides_and_no_pair_of_other_presets():
    def grey(picture):
        return (picture - picture.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-6

    bright = [torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 32, 32)]
    faces = replace(PRESETS["gfpgan_face"], steps=(), gray=0.5)
    assert PRESETS["gfpgan_face"].gray == 0.01
    hr, lr = DegradedPairs(bright, 32, faces, 1).batch(generator_for(0), 40)
    assert torch.equal(grey(hr), grey(lr)) and 10 <= int(grey(hr).sum()) <= 30
    hr, lr = DegradedPairs(bright, 32, replace(faces, gray=0.0), 1).batch(generator_for(0), 40)
    assert not bool(grey(hr).any() or grey(lr).any())


@pytest.mark.parametrize(
    ("channels", "expected"), [(3, (8, 256, "tad_sr", 1.0, 0.02)), (8, (7, 512, "gfpgan_face", 0.1, 0.2))]
)
def test_the_papers_settings_follow_the_kind_of_teacher(channels, expected):
    paper = paper_settings(channels)
    names = {field.name for kind in (DistillSettings, DistillOptions) for field in fields(kind)}
    assert set(paper) <= names
    keys = ("batch", "crop", "degradation", "score_weight", "adversarial_weight")
    assert tuple(paper[key] for key in keys) == expected
    assert (paper["steps"], paper["warmup"], paper["score_levels"], paper["lr"]) == (30_000, 5000, 3, 5e-5)


def test_pictures_that_break_the_degradation_are_named():
    with pytest.raises(ValueError, match="no finite pictures in 4 tries; look at picture 1"):
        DegradedPairs([torch.full((3, 64, 64), float("nan"))], 32, PRESETS["bicubic"]).batch(generator_for(0), 1)


def test_the_sheet_and_the_numbers():
    truth = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = {"teacher": truth.clone(), "student": truth * 0.5}
    trial = Trial(F.avg_pool2d(truth, 4), truth, made, {})
    picture = sheet(trial)
    assert picture.shape == (1, 3, 16 + 2 * 164, 4 * 164 - 4)
    assert torch.equal(picture[0, :, 16 : 16 + 160 : 5, 164 : 164 + 160 : 5], (truth[0] * 255).round() / 255)
    metrics = NamedMetrics({"mae": lambda a, b: (a - b).abs().mean(), "mean": lambda a, _: a.mean()})
    found = measure(trial, metrics)
    assert found["teacher"]["mae"] == 0 and found["student"]["mae"] == pytest.approx(float(truth.mean()) / 2, abs=1e-3)
    assert found["student"]["mean"] == pytest.approx(float(truth.mean()) / 2, abs=1e-3)


def test_kept_bytes_are_those_of_the_arithmetic():
    layer, x = nn.Linear(8, 4, device="meta"), torch.zeros(3, 8, device="meta")
    assert kept_bytes(lambda: layer(x).relu()) == 4 * (3 * 8 + 3 * 4)  # the input and the result; no parameter
    network = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.SiLU())
    x = torch.zeros(1, 2, 5, 5)
    assert kept_bytes(lambda: network(x)) == 4 * (2 * 25 + 2 * 25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fixed", "per_image", "in_24_gb"),
    [("TAD-SR", 3.4, 0.86, 19), ("distillation + HSD", 3.1, 0.60, 28), ("SinSR", 3.1, 1.79, 9)],
)
def test_the_memory_plan_of_the_help_page(method, fixed, per_image, in_24_gb):
    """Numbers of web/docs/AdaptiveSRDistillOneStepSR.md, for the published x4 network and 55.3 M weights of its autoencoder."""
    network = ResidualUNet(PUBLISHED, device="meta")
    plan = memory_plan(network, variant(method), 64, autoencoder_bytes=int(4 * 55.3e6))
    assert plan.fixed / GB == pytest.approx(fixed, abs=0.05)
    assert plan.per_image / GB == pytest.approx(per_image, abs=0.01)
    assert plan.images_in(24e9) == in_24_gb and plan.total(8) == plan.fixed + 8 * plan.per_image


@pytest.mark.slow
def test_a_small_network_needs_little():
    network = PixelDenoiser(
        PixelDenoiserConfig(channels=8, blocks=2, refine_channels=8, feature_channels=4, time_channels=8)
    )
    with_judge, without = (memory_plan(network, variant(name), 16) for name in ("TAD-SR", "distillation"))
    assert without.fixed == 6 * 4 * sum(p.numel() for p in network.parameters()) < with_judge.fixed
    assert 0 < without.per_image < with_judge.per_image < 1e7
    stage_zero = memory_plan(network, variant("ResShift teacher"), 16)
    assert stage_zero.per_image == without.per_image
    assert memory_plan(network, DistillSettings(inverse=1.0, adversarial="none"), 16).per_image > without.per_image
