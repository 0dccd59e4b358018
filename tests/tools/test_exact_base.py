"""Limit laws of the exact base: what a sampler makes of a Gaussian is known, so a run must reproduce it."""

import pytest
import torch
from adaptivesr.sampling.adaptive.choices import MergeMode
from adaptivesr.sampling.adaptive.policy import BudgetMap, FixedSchedule, spread_levels
from adaptivesr.sampling.adaptive.sampler import sample_regions
from adaptivesr.sampling.adaptive.steppers import stepper_for
from adaptivesr.sampling.adaptive.types import NoiseSpace, rows_of
from adaptivesr.sampling.batching import BatchSize
from adaptivesr.tools.bench.reuse import EASY, LAZY, walked
from adaptivesr.tools.exact import canvas as canvases
from adaptivesr.tools.exact import theory
from adaptivesr.tools.exact.posterior import divided, stationary
from adaptivesr.tools.exact.theory import karras, sampled_variance

STEPPERS = ("euler", "ddim", "euler_ancestral", "ddpm", "dpmpp_2m")
BORDERS = canvases.stripes(("flat", "soft", "texture"), regions=2, size=8, shift=2)
WHOLE = canvases.stripes(("flat", "texture"), regions=2, size=8)


def unit(canvas):
    """A canvas with the coefficient 1 in every mode of every region, all channels alike."""
    tiles = [p.gaussian.modes.sum(0).expand(canvases.CHANNELS, -1) for p in canvas.posteriors]
    return canvas.assemble(torch.stack(tiles))


def coefficients(canvas, x):
    """Coefficients (n,) of every region's modes in the first channel."""
    return [p.gaussian.modes @ tile[0] for p, tile in zip(canvas.posteriors, canvas.tiles(x))]


def transfer(canvas, sigmas, stepper, policy, *, start, noise_at):
    """Coefficients after a run that starts from the unit canvas times `start`, with unit noise at one level only."""
    zero, ones = torch.zeros(canvas.shape, dtype=torch.float64), unit(canvas)
    found = sample_regions(
        canvas.model(zero), start * ones, sigmas, regions=canvas.regions, stepper=stepper_for(stepper, NoiseSpace.VARIANCE_EXPLODING),
        merge=MergeMode.FINAL, policy=policy, noise=lambda level: ones[0] if level == noise_at else zero[0], rows_per_call=BatchSize(3),
    )  # fmt: skip
    return coefficients(canvas, found.samples)


def run_variance(canvas, sigmas, stepper, policy):
    """Variances of all modes per region: a run is linear in the start and in the noise of every step."""
    begin = transfer(canvas, sigmas, stepper, policy, start=1.0, noise_at=None)
    added = [transfer(canvas, sigmas, stepper, policy, start=0.0, noise_at=i) for i in range(1, len(sigmas) - 1)]
    return [
        begin[i].square() * (p.gaussian.variance + sigmas[0] ** 2) + sum(one[i].square() for one in added)
        for i, p in enumerate(canvas.posteriors)
    ]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("stepper", STEPPERS)
def test_every_stepper_reproduces_the_closed_form_variance_of_every_mode(stepper, steps):
    sigmas = theory.karras(steps)
    found = run_variance(BORDERS, sigmas, stepper, FixedSchedule())
    for variance, p in zip(found, BORDERS.posteriors):
        expected = theory.sampled_variance(p.gaussian.variance, sigmas, stepper)
        torch.testing.assert_close(variance, expected, rtol=1e-5, atol=1e-18)


@pytest.mark.parametrize("stepper", STEPPERS)
def test_a_region_among_others_at_other_levels_is_the_same_run_alone(stepper):
    sigmas, counts = theory.karras(6), (2, 6, 3, 4)
    found = run_variance(WHOLE, sigmas, stepper, BudgetMap((counts,)))
    for variance, p, count in zip(found, WHOLE.posteriors, counts):
        own = [sigmas[level] for level in spread_levels(count, len(sigmas))]
        expected = theory.sampled_variance(p.gaussian.variance, own, stepper)
        torch.testing.assert_close(variance, expected, rtol=1e-5, atol=1e-18)


def test_the_closed_form_converges_to_the_truth_with_the_order_of_the_stepper():
    clean = stationary("texture", 8).variance
    ratios = {}
    for name in ("euler", "dpmpp_2m"):
        # down to 0.02 and not to 0, since the last step to 0 is of the first order
        runs = [theory.sampled_variance(clean, theory.karras(n)[:-1], name) for n in (80, 160)]
        errors = [theory.distance(run, clean + 0.02**2) ** 0.5 for run in runs]
        ratios[name] = errors[0] / errors[1]
    assert ratios["euler"] == pytest.approx(2, rel=0.1)
    assert ratios["dpmpp_2m"] == pytest.approx(4, rel=0.15)


def test_two_steps_of_one_mode_agree_with_a_calculation_by_hand():
    one = torch.ones(1, dtype=torch.float64)
    # k = 1/2 and 4/5: Euler leaves 3/4 and 4/5 of the amplitude, the ancestral step 5/8 with noise of 1/4 (3/4) / 1
    assert theory.sampled_variance(one, [1, 0.5, 0]).item() == pytest.approx(2 * (3 / 4 * 4 / 5) ** 2)
    ancestral = (2 * (5 / 8) ** 2 + 3 / 16) * (4 / 5) ** 2
    assert theory.sampled_variance(one, [1, 0.5, 0], "ddpm").item() == pytest.approx(ancestral)


def test_the_mean_of_many_draws_has_the_variance_that_the_modes_say():
    area = stationary("texture", 8)
    draws = area.draw(torch.randn(4000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    torch.testing.assert_close((draws @ area.modes.T).square().mean(0), area.variance, rtol=0.12, atol=0)


def test_modes_are_orthonormal_whether_or_not_a_border_runs_through_the_region():
    for p in [*BORDERS.posteriors, *WHOLE.posteriors]:
        basis = p.gaussian.modes
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_border_through_a_region_leaves_every_cell_the_variance_of_its_area():
    labels = tuple(int(i % 8 >= 3) for i in range(64))
    both = divided(("soft", "texture"), labels, 8)
    per_cell = (both.modes.square() * both.variance[:, None]).sum(0)
    expected = torch.tensor([float(stationary(("soft", "texture")[label], 8).variance.mean()) for label in labels])
    torch.testing.assert_close(per_cell, expected.double(), rtol=1e-5, atol=0)


def test_the_denoiser_of_a_mixture_is_that_of_the_component_that_the_picture_comes_from():
    mixture = canvases.stripes(("either",), regions=1, size=8, high=1).posteriors[0]
    noise = torch.randn(4, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for part in mixture.components:
        x, sigma = part.draw(noise)[None], torch.tensor([0.02]).double()
        torch.testing.assert_close(mixture.denoise(x, sigma), part.shrink(x, sigma), rtol=0, atol=1e-6)


def test_the_denoiser_of_a_mixture_is_the_score_of_its_density():
    mixture = canvases.stripes(("either",), regions=1, size=8, high=1).posteriors[0]
    sigma = torch.tensor([0.2], dtype=torch.float64)
    x = 0.3 * torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_(True)
    density = torch.stack([part.log_density(x, sigma) for part in mixture.components]).logsumexp(0).sum()
    (score,) = torch.autograd.grad(density, x)
    torch.testing.assert_close(mixture.denoise(x, sigma), x + 0.2**2 * score, rtol=1e-9, atol=1e-12)


def test_an_area_that_a_region_does_not_touch_adds_no_component():
    canvas = canvases.stripes(("flat", "either"), regions=2, size=8)
    assert [len(p.components) for p in canvas.posteriors] == [1, 2, 1, 2]


def test_rows_are_predicted_from_themselves_alone():
    mean = WHOLE.mean(0)
    x, rows = WHOLE.start(mean, 1.0, 0), rows_of(WHOLE.regions, 1)
    model = WHOLE.model(mean)
    tiles = torch.stack([x[(0, slice(None), *row.region.slices)] for row in rows])
    sigma = torch.tensor([3.0, 1.0, 0.3, 0.1], dtype=torch.float64)
    for i, row in enumerate(rows):
        alone = model(tiles[i : i + 1], sigma[i : i + 1], [row])
        torch.testing.assert_close(model(tiles, sigma, rows)[i], alone[0], rtol=0, atol=1e-13)


def test_a_cache_that_reuses_nothing_leaves_every_mode_as_euler_makes_it():
    variance, sigmas = torch.tensor([0.01, 0.3, 4.0], dtype=torch.float64), karras(7)
    calls = [(sigma, True) for sigma in sigmas[:-1]]
    for kind in (EASY, LAZY):
        spread = walked(torch.ones(3).double(), torch.zeros(3).double(), variance, calls, kind)
        expected = sampled_variance(variance, sigmas)
        torch.testing.assert_close(spread.square() * (variance + sigmas[0] ** 2), expected)
        assert not walked(torch.zeros(3).double(), torch.ones(3).double(), variance, calls, kind).any()


def test_a_reused_noise_output_shifts_the_mean_and_a_reused_clean_one_does_not():
    variance, sigmas = torch.tensor([0.01, 0.3, 4.0], dtype=torch.float64), karras(7)
    calls = [(sigma, i != 3) for i, sigma in enumerate(sigmas[:-1])]
    shift = {
        kind: walked(torch.zeros(3).double(), torch.ones(3).double(), variance, calls, kind) for kind in (EASY, LAZY)
    }
    assert shift[EASY].abs().min() > 0 and not shift[LAZY].any()
