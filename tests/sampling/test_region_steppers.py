import math

import pytest
import torch
from adaptivesr.sampling.adaptive.choices import STEPPER_NAMES
from adaptivesr.sampling.adaptive.steppers import Last, Step, stepper_for
from adaptivesr.sampling.adaptive.types import NoiseSpace
from adaptivesr.tools.golden.adadiffsr_codebook import ancestral_jump, implicit_jump

VE, FLOW = NoiseSpace.VARIANCE_EXPLODING, NoiseSpace.FLOW


def column(*values):
    return torch.tensor(values).reshape(-1, 1, 1, 1)


def rows(count, seed):
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def stepped(name, space, *args, **more):
    return stepper_for(name, space).step(Step(*args, **more))


OFFERED = [(name, space) for space in NoiseSpace for name in STEPPER_NAMES if (name, space) != ("ddpm", FLOW)]


@pytest.mark.parametrize(("name", "space"), OFFERED)
def test_rows_of_mixed_levels_step_as_one_by_one(name, space):
    x, x0, noise, last = (rows(3, seed) for seed in range(4))
    now, after = column(0.9, 0.5, 0.3), column(0.4, 0.45, 0.0)
    before = Last(last, column(0.95, 0.8, 0.7))
    together = stepped(name, space, x, x0, now, after, noise, before)
    for i in range(3):
        one = slice(i, i + 1)
        history = Last(last[one], before.sigma[one])
        alone = stepped(name, space, x[one], x0[one], now[one], after[one], noise[one], history)
        assert torch.equal(together[one], alone)


@pytest.mark.parametrize(("name", "space"), OFFERED)
def test_level_zero_is_the_prediction(name, space):
    x, x0, last = rows(2, 0), rows(2, 1), Last(rows(2, 2), column(1.0, 0.9))
    end = stepped(name, space, x, x0, column(0.8, 0.2), column(0.0, 0.0), None, last)
    torch.testing.assert_close(end, x0)


@pytest.mark.parametrize(("name", "space"), OFFERED)
@pytest.mark.parametrize("after", [0.75, 0.4, 0.02, 1e-4])
def test_a_perfect_prediction_leads_to_the_marginal_of_the_next_level(name, space, after):
    """From x = a x0 + sigma n, with independent noises, to mean a' x0 and deviation sigma', for jumps of any length."""
    shape, now = (1, 1, 300, 300), 0.8
    draw = torch.Generator().manual_seed(7)
    x0 = torch.full(shape, 1.5)
    n, noise = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
    signal = (1 - now, 1 - after) if space is FLOW else (1.0, 1.0)
    end = stepped(name, space, signal[0] * x0 + now * n, x0, column(now), column(after), noise)
    assert float(end.mean()) == pytest.approx(signal[1] * 1.5, abs=0.02 * max(after, 0.1))
    assert float(end.std()) == pytest.approx(after, rel=0.02)


@pytest.mark.parametrize(("now", "after"), [(9.0, 8.9), (9.0, 0.3), (0.4, 0.0)])
def test_ddpm_is_the_jump_of_the_codebook_in_other_coordinates(now, after):
    x, x0, noise = rows(1, 0), rows(1, 1), rows(1, 2)
    a, b = 1 / (1 + now**2), 1 / (1 + after**2)
    jump = ancestral_jump(torch.tensor(a).double().numpy(), torch.tensor(b).double().numpy())
    z = jump.x0_factor * x0 + jump.z_factor * math.sqrt(a) * x + math.sqrt(jump.variance) * noise
    for name in ("ddpm", "euler_ancestral"):
        step = stepped(name, VE, x, x0, column(now), column(after), noise)
        torch.testing.assert_close(step, (z / math.sqrt(b)).float(), rtol=1e-5, atol=1e-5)


def test_euler_is_ddim_without_noise():
    x, x0 = rows(1, 0), rows(1, 1)
    a, b = (torch.tensor(1 / (1 + s**2)).double().numpy() for s in (5.0, 1.5))
    jump = implicit_jump(a, b, 0.0)
    z = float(jump.x0_factor) * x0 + float(jump.eps_factor) * (x - x0) / 5.0
    for name in ("euler", "ddim"):
        step = stepped(name, VE, x, x0, column(5.0), column(1.5))
        torch.testing.assert_close(step, z / math.sqrt(float(b)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("uneven", [False, True])
def test_the_multistep_solver_is_of_second_order_on_uneven_levels_too(uneven):
    """Gaussian data of deviation 1: the exact path is x proportional to sqrt(1 + sigma^2)."""

    def error(steps):
        ends = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        ends = ends if not uneven else (ends + 0.06 * torch.sin(2 * math.pi * ends))
        sigmas = torch.exp(math.log(8.0) + (math.log(0.1) - math.log(8.0)) * ends).tolist()
        x, last = torch.full((1, 1, 1, 1), math.sqrt(1 + 64), dtype=torch.float64), None
        for now, after in zip(sigmas, sigmas[1:]):  # noqa: RUF007
            x0 = x / (1 + now**2)
            moved = stepped("dpmpp_2m", VE, x, x0, column(now).double(), column(after).double(), None, last)
            x, last = moved, Last(x0, column(now).double())
        return abs(float(x) - math.sqrt(1.01))

    assert error(40) < 1e-3
    assert error(80) < error(40) / 3.2


def test_what_cannot_be_done_per_region_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'uni_pc' .* choose one of: euler, ddim, euler_ancestral, ddpm, dpmpp_2m"):
        stepper_for("uni_pc", VE)
    with pytest.raises(ValueError, match=r"'ddpm' .* flow model"):
        stepper_for("ddpm", FLOW)


def test_a_widget_offers_every_stepper_and_no_other():
    for name in STEPPER_NAMES:
        assert stepper_for(name, VE).name == name
    with pytest.raises(ValueError, match=", ".join(STEPPER_NAMES) + r"\.$"):
        stepper_for("none", VE)
