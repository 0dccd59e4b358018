"""Dynamic timesteps in the region sampler, on denoisers whose answer is known."""

import math
from dataclasses import replace

import pytest
import torch
from adaptivesr.imaging.metrics.gain_measures import latent_measures, linear_rgb, rgb_measures
from adaptivesr.imaging.tiles import grid
from adaptivesr.models.gain_regressor import Mmle, MmleConfig
from adaptivesr.sampling.adaptive import gain
from adaptivesr.sampling.adaptive.choices import JumpRule, MergeMode
from adaptivesr.sampling.adaptive.dynamic import DynamicSettings, DynamicTimesteps
from adaptivesr.sampling.adaptive.observers import BackEnd, MetricGains, ProxyGains, RegressorGains
from adaptivesr.sampling.adaptive.policy import Decision, FixedSchedule
from adaptivesr.sampling.adaptive.sampler import canvas_noise, sample_regions
from adaptivesr.sampling.adaptive.steppers import stepper_for
from adaptivesr.sampling.adaptive.types import NoiseSpace, rows_of
from adaptivesr.sampling.batching import BatchSize
from adaptivesr.sampling.schedules import sigma_of, stable_diffusion_alphas
from adaptivesr.tools.bench.parts.region_networks import TileNetwork, WatchedRun, crops
from adaptivesr.tools.golden.adadiffsr_codebook import grid_timesteps

ENTRIES = 40
TIMESTEPS = grid_timesteps(ENTRIES)[::-1]
SIGMAS = [*sigma_of(stable_diffusion_alphas()[list(TIMESTEPS)]).tolist(), 0.0]
SIZE = (24, 40)
REGIONS = grid(*SIZE, 12, 4)
FLAT = [region.x + region.width <= SIZE[1] // 2 for region in REGIONS]
TEXTURED = [region.x >= SIZE[1] // 2 for region in REGIONS]
METRICS = gain.chosen(gain.LATENT_METRICS, ["psnr", "nlpd", "sharpness"])
FINAL, CONSENSUS, AGGREGATE = MergeMode.FINAL, MergeMode.CONSENSUS, MergeMode.AGGREGATE
SETTINGS = DynamicSettings().on_grid(ENTRIES)
# numbers of the host's SD 1.x and 2.x latents
SD = [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]]


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TexturedDenoiser:
    """E[x0 | x] for independent cells N(mean, deviation^2): a smooth half that is known from the start, and a textured one."""

    def __init__(self, images=1):
        ramp = torch.linspace(-1, 1, SIZE[1]).expand(images, 4, *SIZE)
        self.mean = ramp + torch.arange(images).view(-1, 1, 1, 1)
        self.deviation = torch.zeros(images, 4, *SIZE)
        self.deviation[..., SIZE[1] // 2 :] = 1.0

    def __call__(self, x, sigma, rows):
        mean, variance = crops(self.mean, rows), crops(self.deviation, rows).square()
        return mean + variance / (variance + sigma.view(-1, 1, 1, 1).square()) * (x - mean)


def observer_of(name, reference):
    if name == "latent":
        return MetricGains(BackEnd(reference, latent_measures()), METRICS, TIMESTEPS)
    if name == "rgb_linear":
        metrics = gain.chosen(gain.PICTURE_METRICS, ["psnr", "nlpd", "sharpness"])
        return MetricGains(BackEnd(view(reference), rgb_measures(), view), metrics, TIMESTEPS)
    if name == "proxies":
        return ProxyGains(reference, TIMESTEPS)
    torch.manual_seed(0)
    network = Mmle(MmleConfig(widths=(16,) * 7, hidden=16)).eval()
    return RegressorGains(network, reference, gain.PAPER_METRICS, TIMESTEPS)


def view(latent):
    return linear_rgb(latent, SD)


def run(
    model,
    *,
    images=1,
    merge=FINAL,
    settings=SETTINGS,
    observer="proxies",
    rows=16,
    policy=None,
    sampler="ddpm",
    **watched,
):
    reference = model.mean if isinstance(model, TexturedDenoiser) else torch.zeros(images, 4, *SIZE)
    x = reference + SIGMAS[0] * noise(3, 4, *SIZE).expand(images, -1, -1, -1)
    found = policy or DynamicTimesteps(settings, TIMESTEPS)
    result = sample_regions(
        model,
        x,
        SIGMAS,
        regions=REGIONS,
        stepper=stepper_for(sampler, NoiseSpace.VARIANCE_EXPLODING),
        merge=merge,
        policy=found,
        noise=canvas_noise(x, 7),
        rows_per_call=BatchSize(rows),
        observer=WatchedRun(observe=observer_of(observer, reference), **watched),
    )
    return result, found


def of(kind, calls):
    return [count for count, chosen in zip(calls, kind) if chosen]


CASES = [(merge, "proxies", sampler) for merge in (FINAL, CONSENSUS) for sampler in ("ddpm", "euler", "dpmpp_2m")]
CASES += [(FINAL, "latent", "ddpm"), (CONSENSUS, "rgb_linear", "euler")]


@pytest.mark.slow
@pytest.mark.parametrize(("merge", "observer", "sampler"), CASES)
def test_flat_regions_finish_earlier_than_textured_ones(merge, observer, sampler):
    # a metric that runs through its whole range gains tau per step on average; these run through a part of it
    settings = SETTINGS if observer == "proxies" else replace(SETTINGS, tau=SETTINGS.tau / 5)
    result, _ = run(TexturedDenoiser(), merge=merge, observer=observer, sampler=sampler, settings=settings)
    calls = result.calls_per_region[0]
    flat, textured = of(FLAT, calls), of(TEXTURED, calls)
    assert len(flat) >= 4 and len(textured) >= 4
    assert max(flat) < 0.5 * ENTRIES and max(flat) < 0.75 * min(textured)
    assert result.work.rows == sum(calls) and bool(torch.isfinite(result.samples).all())


@pytest.mark.parametrize("rule", JumpRule)
def test_every_rule_spends_more_on_texture(rule):
    result, _ = run(TexturedDenoiser(), settings=DynamicSettings(rule=rule).on_grid(ENTRIES))
    calls = result.calls_per_region[0]
    assert max(of(FLAT, calls)) < min(of(TEXTURED, calls))


@pytest.mark.slow
@pytest.mark.parametrize("merge", MergeMode)
@pytest.mark.parametrize("observer", ["proxies", "regressor"])
def test_work_is_counted_exactly_and_the_plan_shrinks_to_it(merge, observer):
    progress, previews, seen = [], [], []
    model = TexturedDenoiser(2)

    def counted(x, sigma, rows):
        seen.extend((row.image, row.region_id) for row in rows)
        return model(x, sigma, rows)

    counted.mean = model.mean
    watched = {"step": lambda *now: progress.append(now), "preview": lambda x0, *now: previews.append((x0.shape, now))}
    reference = model.mean
    x = reference + SIGMAS[0] * noise(3, 4, *SIZE).expand(2, -1, -1, -1)
    policy = DynamicTimesteps(SETTINGS, TIMESTEPS)
    result = sample_regions(
        counted,
        x,
        SIGMAS,
        regions=REGIONS,
        stepper=stepper_for("ddpm", NoiseSpace.VARIANCE_EXPLODING),
        merge=merge,
        policy=policy,
        noise=canvas_noise(x, 7),
        rows_per_call=BatchSize(4),
        observer=WatchedRun(observe=observer_of(observer, reference), **watched),
    )
    calls = result.calls_per_region
    assert calls == [[seen.count((image, i)) for i in range(len(REGIONS))] for image in range(2)]
    assert calls == [[policy.states[image, i].calls for i in range(len(REGIONS))] for image in range(2)]
    assert result.work.rows == sum(map(sum, calls)) == len(seen)
    assert result.work.latent_cells == len(seen) * 144
    assert sum(size * count for size, count in result.work.batch_sizes.items()) == len(seen)
    assert progress[0] == (4, 2 * len(REGIONS) * ENTRIES) and previews[-1][1] == (len(seen), len(seen))
    planned = [total for _, total in progress]
    assert planned == sorted(planned, reverse=True) and all(done <= total for done, total in progress)
    assert all(
        len(policy.states[row.image, row.region_id].classes) == calls[row.image][row.region_id]
        for row in rows_of(REGIONS, 2)
    )


@pytest.mark.parametrize("observer", ["latent", "proxies"])
def test_aggregation_keeps_all_regions_of_an_image_in_step(observer):
    result, _ = run(TexturedDenoiser(2), images=2, merge=AGGREGATE, observer=observer)
    for calls, reasons in zip(result.calls_per_region, result.exit_reasons):
        assert len(set(calls)) == len(set(reasons)) == 1
    assert min(map(min, result.calls_per_region)) >= SETTINGS.min_calls


@pytest.mark.parametrize("merge", MergeMode)
@pytest.mark.parametrize("budget", [(1, 1), (2, 5), (12, 16)])
def test_budgets_are_kept(merge, budget):
    least, most = budget
    settings = DynamicSettings(tau=0.025, min_calls=least, max_calls=most)
    result, policy = run(TexturedDenoiser(), merge=merge, settings=settings)
    for count in result.calls_per_region[0]:
        assert least <= count <= most
    ends = {"budget"} if most == 1 else {"complete", "saturated"}
    assert set(result.exit_reasons[0]) <= ends
    assert {state.status for state in policy.states.values()} == set(result.exit_reasons[0])


@pytest.mark.slow
@pytest.mark.parametrize(("merge", "observer"), [*((merge, "proxies") for merge in MergeMode), (FINAL, "latent")])
def test_a_second_run_equals_the_first(merge, observer):
    model = TileNetwork()
    first, other = (run(model, merge=merge, observer=observer)[0] for _ in range(2))
    assert torch.equal(first.samples, other.samples)
    assert first.calls_per_region == other.calls_per_region


@pytest.mark.slow
@pytest.mark.parametrize("merge", MergeMode)
def test_the_result_does_not_depend_on_rows_per_call(merge):
    results = [run(TexturedDenoiser(2), images=2, merge=merge, rows=rows)[0] for rows in (3, 64)]
    for result in results[1:]:
        assert result.calls_per_region == results[0].calls_per_region
        assert torch.allclose(result.samples, results[0].samples, atol=1e-5)


def test_an_image_does_not_notice_the_others_of_its_batch():
    model = TexturedDenoiser(2)
    both, _ = run(model, images=2)
    for i in range(2):
        single = TexturedDenoiser(1)
        single.mean = model.mean[i : i + 1]
        alone, _ = run(single)
        assert alone.calls_per_region[0] == both.calls_per_region[i]
        assert torch.allclose(alone.samples[0], both.samples[i], atol=1e-5)


@pytest.mark.parametrize("merge", MergeMode)
def test_without_jumps_it_is_the_plain_sampler(merge):
    model = TileNetwork()
    settings = DynamicSettings(jumps=(1, 1, 1, 1), patience=1000)
    adaptive, _ = run(model, merge=merge, settings=settings)
    plain, _ = run(model, merge=merge, policy=FixedSchedule())
    assert torch.equal(adaptive.samples, plain.samples)
    assert adaptive.calls_per_region == plain.calls_per_region


def fading(model, below):
    """Predictions whose texture fades again once the noise is weak: their quality falls."""

    def predict(x, sigma, rows):
        x0 = model(x, sigma, rows)
        mean = crops(model.mean, rows)
        keep = torch.where(sigma < below, 0.25 + 0.75 * sigma / below, torch.ones_like(sigma))
        return mean + keep.view(-1, 1, 1, 1) * (x0 - mean)

    return predict


@pytest.mark.slow
@pytest.mark.parametrize("merge", [FINAL, CONSENSUS])
def test_regions_whose_quality_falls_end_with_their_best_prediction(merge):
    model = TexturedDenoiser()
    predict, recorded = fading(model, 0.5), {}

    def recording(x, sigma, rows):
        x0 = predict(x, sigma, rows)
        for row, tile in zip(rows, x0):
            recorded.setdefault(row.region_id, []).append(tile)
        return x0

    regions = grid(*SIZE, 8, 0)  # no overlap: a region's result is its own
    x = model.mean + SIGMAS[0] * noise(3, 1, 4, *SIZE)
    policy = DynamicTimesteps(SETTINGS, TIMESTEPS)
    result = sample_regions(
        recording,
        x,
        SIGMAS,
        regions=regions,
        stepper=stepper_for("ddpm", NoiseSpace.VARIANCE_EXPLODING),
        merge=merge,
        policy=policy,
        noise=canvas_noise(x, 7),
        rows_per_call=BatchSize(4),
        observer=WatchedRun(observe=ProxyGains(model.mean, TIMESTEPS)),
    )
    ended = [i for i, reason in enumerate(result.exit_reasons[0]) if reason == "saturated"]
    assert len(ended) >= 4 and all(regions[i].x + 8 > SIZE[1] // 2 for i in ended)
    for i in ended:
        state = policy.states[0, i]
        assert state.best_call < state.calls == len(recorded[i]) < ENTRIES
        assert torch.allclose(
            result.samples[(0, slice(None), *regions[i].slices)], recorded[i][state.best_call - 1], atol=1e-5
        )


def test_a_grid_that_does_not_end_at_zero_cannot_end_a_region_early():
    class Stops(FixedSchedule):
        def decide(self, row, index, levels, gains):
            return Decision(levels - 1, "saturated", keep=True, restore=True)

    model = TileNetwork()
    x = noise(3, 1, 4, *SIZE)
    with pytest.raises(ValueError, match=r"the sigmas end at 0\.5: expected 0"):
        sample_regions(
            model,
            x,
            [2.0, 1.0, 0.5],
            regions=REGIONS,
            stepper=stepper_for("euler", NoiseSpace.VARIANCE_EXPLODING),
            merge=FINAL,
            policy=Stops(),
            noise=canvas_noise(x, 7),
            rows_per_call=BatchSize(4),
        )


def test_quality_of_the_adaptive_run_stays_near_the_fixed_one():
    model = TexturedDenoiser()
    adaptive, fixed = run(model, sampler="euler")[0], run(model, sampler="euler", policy=FixedSchedule())[0]
    difference = (adaptive.samples - fixed.samples).square().mean().sqrt()
    assert adaptive.work.rows < 0.85 * fixed.work.rows
    assert float(difference) < 0.1 * float(fixed.samples.std()) and math.isfinite(float(difference))
