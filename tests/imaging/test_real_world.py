"""Real-world degradations: what is drawn, in what order, and that a picture's result depends on nothing but its generator."""

import functools
import math

import pytest
import torch
from adaptivesr.imaging.degradation import parts as degradation
from adaptivesr.imaging.degradation import steps
from adaptivesr.imaging.degradation.choices import PRESET_NAMES
from adaptivesr.imaging.degradation.presets import PRESETS, degrade, degrade_one

DRAWS = 240


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=3, size=(64, 48)):
    coarse = torch.rand(count, 3, 7, 6, generator=generator(5))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def job(seed=0, target=(16, 12), shared=None):
    own = generator(seed)
    return steps.Job(own, own if shared is None else generator(shared), target)


@functools.lru_cache
def records(name, count=DRAWS, size=(16, 16), scale=2):
    """What `count` pictures had drawn."""
    g, image = generator(1), pictures(1, size)
    return [degrade_one(image, PRESETS[name], g, scale)[1] for _ in range(count)]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_small_pictures_in_range(name):
    low = degrade(pictures(), PRESETS[name], generator())
    assert low.shape == (3, 3, 16, 12) and low.dtype == torch.float32
    assert low.min() >= 0 and low.max() <= 1 and torch.isfinite(low).all()
    reduced = degrade(pictures(), PRESETS["bicubic"], generator())
    assert (low - reduced).mean((1, 2, 3)).abs().max() < 0.1  # darker or lighter by noise that was cut off at most


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_generator_gives_the_same_picture_and_another_one_another(name):
    first, again = (degrade(pictures(), PRESETS[name], generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    if name != "bicubic":
        assert not torch.equal(first, degrade(pictures(), PRESETS[name], generator(4)))


@pytest.mark.parametrize("name", ["real-esrgan", "tad_sr", "mild"])
def test_a_batch_is_its_pictures_one_by_one(name):
    g = generator(7)
    singles = [degrade(one, PRESETS[name], g) for one in pictures().split(1)]
    assert torch.equal(degrade(pictures(), PRESETS[name], generator(7)), torch.cat(singles))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    degrade(pictures(), PRESETS["real-esrgan"], generator())
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_may_share_what_the_papers_draw_once_for_it():
    g, image = generator(2), pictures(1, (32, 32))
    logs = [degrade_one(image, PRESETS["real-esrgan"], g, 2, shared_seed=11)[1] for _ in range(12)]
    resizes = [[entry for entry in log if entry["step"] == "resize"] for log in logs]
    assert all(entries == resizes[0] for entries in resizes)
    kinds = [[entry["kind"] for entry in log if entry["step"] == "noise"] for log in logs]
    assert all(entries == kinds[0] for entries in kinds)
    qualities = {entry["quality"] for log in logs for entry in log if entry["step"] == "jpeg"}
    assert len(qualities) == 24  # two for every picture, none of them shared
    shared = degrade(pictures(), PRESETS["tad_sr"], generator(9), shared=True)
    assert torch.equal(shared, degrade(pictures(), PRESETS["tad_sr"], generator(9), shared=True))


def of_step(logs, step, position=None):
    found = [[entry for entry in log if entry["step"] == step] for log in logs]
    return [e for entries in found for e in (entries if position is None else entries[position : position + 1])]


def expect_share(values, expected):
    """The share of true values is the expected one within four deviations of its estimate."""
    values = list(values)
    deviation = math.sqrt(expected * (1 - expected) / len(values))
    assert abs(sum(values) / len(values) - expected) < 4 * deviation


@pytest.mark.slow
def test_kernels_follow_the_table_of_real_esrgan():
    run, blur = job(), PRESETS["real-esrgan"].steps[1]
    for _ in range(2000):
        blur.kernel(run)
    assert {entry["side"] for entry in run.log} == {7, 9, 11, 13, 15, 17, 19, 21}
    expect_share((entry["side"] == 13 for entry in run.log), 1 / 8)
    expect_share((entry["kind"] == "sinc" for entry in run.log), 0.1)
    shaped = [entry for entry in run.log if entry["kind"] != "sinc"]
    for kind, expected in zip(steps.KINDS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)):
        expect_share((entry["kind"] == kind for entry in shaped), expected)
    sigmas = [sigma for entry in shaped for sigma in entry["sigma"]]
    assert 0.2 < min(sigmas) < 0.21 and 2.99 < max(sigmas) < 3.0
    for start, low, high in (("generalized", 0.5, 4.0), ("plateau", 1.0, 2.0)):
        betas = [entry["beta"] for entry in shaped if entry["kind"].startswith(start)]
        assert low <= min(betas) < low + 0.03 and high - 0.1 < max(betas) < high
        expect_share((beta <= 1.0 for beta in betas), 0.5)
    for entry in run.log:
        if entry["kind"] == "sinc":
            assert math.pi / (3 if entry["side"] < 13 else 5) <= entry["cutoff"] <= math.pi
        else:
            assert len(entry["sigma"]) == (2 if entry["kind"].endswith("aniso") else 1)


@pytest.mark.slow
def test_draws_follow_the_table_of_real_esrgan():
    logs = records("diffbir")  # the same without its slow sharpening
    expect_share((sum(entry["step"] == "blur" for entry in log) == 2 for log in logs), 0.8)
    for place, levels, poisson in ((0, 30, 3.0), (1, 25, 2.5)):
        noises = of_step(logs, "noise", place)
        expect_share((entry["kind"] == "gaussian" for entry in noises), 0.5)
        expect_share((entry["colors"] == "grey" for entry in noises), 0.4)
        sigmas = [entry["sigma"] for entry in noises if entry["kind"] == "gaussian"]
        assert min(sigmas) >= 1 and 0.9 * levels < max(sigmas) <= levels
        scales = [entry["scale"] for entry in noises if entry["kind"] == "poisson"]
        assert min(scales) >= 0.05 and 0.9 * poisson < max(scales) <= poisson
    qualities = [entry["quality"] for entry in of_step(logs, "jpeg")]
    assert 30 <= min(qualities) < 34 and 91 < max(qualities) <= 95
    jpeg_then_reduced = (
        log.index(of_step([log], "resize", 2)[0]) > log.index(of_step([log], "jpeg", 1)[0]) for log in logs
    )
    expect_share(jpeg_then_reduced, 0.5)
    expect_share((len(of_step([log], "sinc")) == 1 for log in logs), 0.8)
    assert PRESETS["real-esrgan"].steps == (steps.Sharpen(), *PRESETS["diffbir"].steps)


@pytest.mark.slow
def test_resizing_follows_its_weights_and_limits():
    factors = [entry["factor"] for entry in of_step(records("tad_sr"), "resize", 0)]
    expect_share((f > 1 for f in factors), 0.2)
    expect_share((f < 1 for f in factors), 0.7)
    expect_share((f == 1 for f in factors), 0.1)
    assert 0.15 <= min(factors) < 0.2 and 1.4 < max(factors) <= 1.5
    modes = [entry["mode"] for entry in of_step(records("tad_sr"), "resize")]
    for mode in ("area", "bilinear", "bicubic"):
        expect_share((m == mode for m in modes), 1 / 3)


@pytest.mark.slow
def test_resshift_makes_the_second_order_for_half_of_the_pictures():
    logs = records("tad_sr")
    expect_share((len(of_step([log], "noise")) == 2 for log in logs), 0.5)
    assert {entry["side"] for entry in of_step(logs, "blur", 0)} == set(range(3, 20, 2))
    assert {entry["side"] for entry in of_step(logs, "blur", 1)} == set(range(3, 14, 2))


@pytest.mark.slow
def test_stablesr_is_weaker_than_real_esrgan_and_rounds_nothing():
    logs = records("stablesr_768")  # the same without its slow sharpening
    assert min(entry["quality"] for entry in of_step(logs, "jpeg")) >= 60
    assert max(max(entry["sigma"]) for entry in of_step(logs, "blur") if "sigma" in entry) <= 1.5
    expect_share((len(of_step([log], "blur")) == 2 for log in logs), 0.5)
    low = degrade(pictures(), PRESETS["stablesr"], generator(2)) * 255
    assert (low - low.round()).abs().max() > 0.05
    low = degrade(pictures(), PRESETS["real-esrgan"], generator(2)) * 255
    torch.testing.assert_close(low, low.round(), rtol=0, atol=1e-4)


def test_mild_only_reduces_a_third_of_the_pictures():
    expect_share((len(log) == 1 for log in records("mild")), 0.35)


def test_a_recorded_kernel_is_the_one_that_blurs():
    image = pictures(1)
    blur = steps.Blur((7, 21), (0.2, 3.0), weights=(0, 0, 0, 1, 0, 0), sinc=0.0)
    run = job(4)
    blurred = blur.apply(image, run)
    (drawn,) = run.log
    kernel = degradation.generalized_kernel(drawn["side"], drawn["beta"], *drawn["sigma"], drawn["rotation"])
    assert torch.equal(blurred, degradation.filter_per_sample(image, kernel[None]))
    # kernels of different sides stand in one batch, padded with zeros, in the published code: nothing else changes
    padded = degradation.pad_kernel(kernel, 21)
    torch.testing.assert_close(blurred, degradation.filter_per_sample(image, padded[None]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (9, 9)])
def test_pictures_smaller_than_a_kernel_are_reflected(size):
    image = pictures(1, size)
    large = steps.reflect_around(image, 10, 10, size[0] + 20, size[1] + 20)
    kernel = degradation.gaussian_kernel(21, 2.0)
    expected = torch.nn.functional.conv2d(large, kernel.expand(3, 1, -1, -1), groups=3)
    torch.testing.assert_close(steps.correlate(image, kernel), expected, atol=1e-6, rtol=0)


def test_gaussian_noise_has_the_drawn_deviation_and_grey_noise_no_colour():
    image = torch.full((1, 3, 128, 128), 0.5)
    for gray in (0.0, 1.0):
        run = job(6)
        noise = steps.Noise((5, 20), gaussian=1.0, gray=gray).apply(image, run) - image
        assert noise.std().item() * 255 == pytest.approx(run.log[0]["sigma"], rel=0.03)
        assert (noise[:, 0] - noise[:, 1]).abs().max().item() == (0 if gray else pytest.approx(0.3, abs=0.2))


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_has_the_variance_of_its_counts(gray):
    """Var(Poisson(v x) / v) = x / v; a ramp of 256 levels has v = 256, one of 5 levels v = 8."""
    ramp = torch.arange(256).div(255).repeat(200, 1).expand(1, 3, -1, -1)
    for image, counts in ((ramp, 256.0), ((ramp * 4).round() / 4, 8.0)):
        noise = steps.poisson_noise(image, generator(), gray=gray)
        assert noise.shape == (1, 1 if gray else 3, 200, 256)
        level = image[0, 0, 0]
        variance = noise.var(dim=(0, 1, 2))
        bright = level > 0.2
        assert (variance[bright] * counts / level[bright]).mean().item() == pytest.approx(1.0, abs=0.05)
        assert variance[level == 0].max() == 0


def test_grey_poisson_noise_counts_luma():
    image = pictures(1)
    luma = torch.einsum("bchw,c->bhw", image, torch.tensor((0.299, 0.587, 0.114)))[:, None]
    levels = degradation.quantize_to_8bit(luma)
    counts = 2.0 ** math.ceil(math.log2(len(levels.unique())))
    expected = torch.poisson(levels * counts, generator=generator(8)) / counts - levels
    torch.testing.assert_close(steps.poisson_noise(image, generator(8), gray=True), expected, atol=1e-2, rtol=0)


def test_bicubic_is_the_antialiased_reduction():
    expected = torch.nn.functional.interpolate(pictures(), size=(16, 12), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(degrade(pictures(), PRESETS["bicubic"], generator()), expected)


def test_sides_that_are_no_multiples_are_refused():
    with pytest.raises(ValueError, match="picture of 30x32 to be reduced by 4: expected sides that are multiples"):
        degrade(pictures(1, (32, 30)), PRESETS["mild"], generator())


def test_a_widget_offers_every_preset_in_the_order_of_the_tables():
    assert tuple(PRESETS) == PRESET_NAMES
