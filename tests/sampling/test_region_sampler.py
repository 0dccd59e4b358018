import math
from itertools import pairwise

import adaptivesr.sampling.adaptive.sampler as region_loop
import pytest
import torch
from adaptivesr.imaging.tiles import Region, grid
from adaptivesr.sampling.adaptive.choices import MergeMode
from adaptivesr.sampling.adaptive.observers import ProxyGains
from adaptivesr.sampling.adaptive.policy import BudgetMap, Decision, FixedSchedule, spread_levels
from adaptivesr.sampling.adaptive.sampler import canvas_noise, sample_regions
from adaptivesr.sampling.adaptive.step_size import Moves
from adaptivesr.sampling.adaptive.steppers import stepper_for
from adaptivesr.sampling.adaptive.types import NoiseSpace, rows_of
from adaptivesr.sampling.batching import BatchSize
from adaptivesr.sampling.noise import gaussian_field
from adaptivesr.tools.bench.parts.region_networks import GaussianDenoiser, TileNetwork, WatchedRun, crops

VE, FLOW = NoiseSpace.VARIANCE_EXPLODING, NoiseSpace.FLOW
AGGREGATE, FINAL, CONSENSUS = MergeMode.AGGREGATE, MergeMode.FINAL, MergeMode.CONSENSUS
OFFERED = [(name, space) for space in NoiseSpace for name in ("euler", "ddim", "euler_ancestral", "dpmpp_2m")]
OFFERED.append(("ddpm", VE))
SIZE = (20, 28)
REGIONS = grid(*SIZE, 12, 4)
SIGMAS = {VE: [9.0, 4.0, 2.0, 1.1, 0.5, 0.2, 0.0], FLOW: [1.0, 0.8, 0.65, 0.5, 0.3, 0.1, 0.0]}
UNEVEN = BudgetMap((tuple(1 + i % 6 for i in range(len(REGIONS))),))


def canvas(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(model, x, *, name="euler", space=VE, regions=REGIONS, merge=FINAL, policy=None, rows=4, sigmas=None, **more):
    return sample_regions(
        model,
        x,
        sigmas or SIGMAS[space],
        regions=regions,
        stepper=stepper_for(name, space),
        merge=merge,
        policy=policy or FixedSchedule(),
        noise=canvas_noise(x, 5),
        rows_per_call=rows if isinstance(rows, BatchSize) else BatchSize(rows),
        **more,
    )


def problem(space=VE, images=1, size=SIZE):
    """A pointwise denoiser and a start."""
    model = GaussianDenoiser(canvas(images, 4, *size, seed=1), 0.7, space)
    return model, canvas(images, 4, *size, seed=2) * SIGMAS[space][0]


def close(actual, expected, tolerance=1e-5):
    return float((actual - expected).abs().max()) <= tolerance * max(1.0, float(expected.abs().max()))


def plain_loop(predict, x, sigmas, name, space, noise):
    """Textbook samplers in float64, written from x = a x0 + sigma n; dpmpp_2m from Lu et al. 2022."""
    x, previous = x.double(), None
    for i, (s, t) in enumerate(pairwise(sigmas)):
        a_s, a_t = (1 - s, 1 - t) if space is FLOW else (1.0, 1.0)
        x0 = predict(x.float(), s).double()
        n = (x - a_s * x0) / s
        drawn = noise(i + 1).double()
        if name in ("euler", "ddim"):
            x = a_t * x0 + t * n
        elif name == "dpmpp_2m":
            h = math.inf if t == 0 else math.log(s / t)
            target = x0
            if previous is not None and t > 0:
                target = x0 + (x0 - previous) * h / (2 * math.log(sigmas[i - 1] / s))
            x = math.exp(-h) * x + (1 - math.exp(-h)) * target
        else:
            # both keep the deviation t^2 / s (times a_t / a_down) of the old noise; flow scales the signal as well
            down = t * t / s
            kept = down * a_t / (1 - down) if space is FLOW else down
            x = a_t * x0 + kept * n + math.sqrt(max(0.0, t * t - kept * kept)) * drawn
        previous = x0
    return x.float()


def plain_model(model, regions, images=1):
    """The model for one sigma, on equal regions of every image."""
    return lambda now, s: model(now, torch.full((len(now),), s), rows_of(regions, images))


def untiled(model, x, name, space):
    predict = plain_model(model, [Region(0, 0, *x.shape[-2:])], x.shape[0])
    return plain_loop(predict, x, SIGMAS[space], name, space, canvas_noise(x, 5))


@pytest.mark.parametrize("merge", MergeMode)
@pytest.mark.parametrize(("name", "space"), OFFERED)
def test_one_region_is_the_plain_sampler(name, space, merge):
    model, x = problem(space)
    whole = [Region(0, 0, *SIZE)]
    result = run(model, x, name=name, space=space, regions=whole, merge=merge)
    assert close(result.samples, untiled(model, x, name, space))
    assert result.calls_per_region == [[6]] and result.exit_reasons == [["complete"]]


@pytest.mark.parametrize("merge", MergeMode)
@pytest.mark.parametrize(("name", "space"), OFFERED)
def test_tiling_changes_nothing_for_a_network_without_neighbours(name, space, merge):
    model, x = problem(space)
    result = run(model, x, name=name, space=space, merge=merge)
    assert close(result.samples, untiled(model, x, name, space))


@pytest.mark.parametrize(("name", "space"), OFFERED)
def test_every_region_follows_the_plain_sampler_of_its_own_levels(name, space):
    model, x = problem(space, size=(20, 30))
    regions = grid(20, 30, 10, 0)
    budgets = tuple(1 + i for i in range(len(regions)))
    result = run(model, x, name=name, space=space, regions=regions, policy=BudgetMap((budgets,)))
    field = canvas_noise(x, 5)
    for region, steps in zip(regions, budgets):
        levels, cut = spread_levels(steps, 7), (..., *region.slices)
        sigmas = [SIGMAS[space][level] for level in levels]
        noise = [field(level)[cut][None] for level in levels]
        plain = plain_loop(plain_model(model, [region]), x[cut], sigmas, name, space, noise.__getitem__)
        assert close(result.samples[cut], plain)


def test_overlap_zero_is_crop_sample_paste():
    network, x = TileNetwork(), canvas(1, 4, 24, 36) * 9
    regions = grid(24, 36, 12, 0)
    result = run(network, x, regions=regions)
    for region in regions:
        alone = run(network, x[(..., *region.slices)], regions=[Region(0, 0, 12, 12)], rows=1)
        assert close(result.samples[(..., *region.slices)], alone.samples, 1e-6)


def test_equal_steps_are_fixed_tiled_sampling():
    network, x = TileNetwork(), canvas(1, 4, *SIZE) * 9
    for merge in MergeMode:
        fixed = run(network, x, merge=merge)
        budget = run(network, x, merge=merge, policy=BudgetMap(((6,) * len(REGIONS),)))
        assert torch.equal(fixed.samples, budget.samples)
        assert budget.calls_per_region == [[6] * len(REGIONS)]


@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m"])
def test_consensus_of_equal_steps_is_aggregation(name):
    network, x = TileNetwork(), canvas(1, 4, *SIZE) * 9
    both = [run(network, x, name=name, merge=merge).samples for merge in (AGGREGATE, CONSENSUS)]
    assert close(both[1], both[0], 1e-5)
    assert not close(run(network, x, name=name, merge=FINAL).samples, both[0], 1e-3)


@pytest.mark.parametrize("merge", [FINAL, CONSENSUS])
@pytest.mark.parametrize("name", ["euler", "ddpm", "dpmpp_2m"])
def test_the_result_does_not_depend_on_rows_per_call(name, merge):
    model, x = problem(images=2)
    results = [run(model, x, name=name, merge=merge, policy=UNEVEN, rows=rows) for rows in (1, 3, 64)]
    assert all(torch.equal(result.samples, results[0].samples) for result in results)
    network = TileNetwork()
    results = [run(network, x, name=name, merge=merge, policy=UNEVEN, rows=rows) for rows in (1, 3, 64)]
    assert all(close(result.samples, results[0].samples, 1e-5) for result in results)


@pytest.mark.parametrize("merge", MergeMode)
def test_the_result_does_not_depend_on_the_order_of_regions(merge):
    network, x = TileNetwork(), canvas(1, 4, *SIZE) * 9
    steps = (4,) * len(REGIONS) if merge is AGGREGATE else UNEVEN.steps[0]
    forward = run(network, x, name="ddpm", merge=merge, policy=BudgetMap((steps,)))
    order = torch.randperm(len(REGIONS), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = BudgetMap((tuple(steps[i] for i in order),))
    other = run(network, x, name="ddpm", merge=merge, policy=shuffled, regions=[REGIONS[i] for i in order])
    assert close(other.samples, forward.samples, 1e-5)


def test_a_region_on_its_own_does_not_notice_when_others_finish():
    network, x = TileNetwork(), canvas(1, 4, 24, 24) * 9
    regions = grid(24, 24, 12, 0)
    early = run(network, x, name="ddpm", regions=regions, policy=BudgetMap(((6, 1, 2, 3),)))
    late = run(network, x, name="ddpm", regions=regions, policy=BudgetMap(((6, 6, 6, 6),)))
    assert close(early.samples[..., :12, :12], late.samples[..., :12, :12], 1e-6)


@pytest.mark.parametrize("merge", MergeMode)
@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m"])
def test_a_batch_is_its_images_one_by_one(name, merge):
    network, x = TileNetwork(), canvas(3, 4, *SIZE) * 9
    policy = FixedSchedule() if merge is AGGREGATE else UNEVEN
    batch = run(network, x, name=name, merge=merge, policy=policy, rows=5)
    for i, image in enumerate(x):
        single = run(network, image[None], name=name, merge=merge, policy=policy, rows=5)
        assert close(batch.samples[i : i + 1], single.samples, 1e-5)


def test_rows_at_different_sigmas_share_calls_and_equal_one_by_one():
    network, x = TileNetwork(), canvas(1, 4, *SIZE) * 9
    seen = []

    def model(tiles, sigma, rows):
        seen.append(sigma.tolist())
        together = network(tiles, sigma, rows)
        alone = torch.cat([network(tiles[i : i + 1], sigma[i : i + 1], rows[i : i + 1]) for i in range(len(rows))])
        assert close(together, alone, 1e-5)
        return together

    run(model, x, policy=UNEVEN, rows=64)
    assert any(len(set(sigma)) > 2 for sigma in seen)


@pytest.mark.parametrize("merge", [FINAL, CONSENSUS])
def test_budgets_give_exactly_the_counted_calls(merge):
    model, x = problem(images=2)
    first, second = UNEVEN.steps[0], (2,) * len(REGIONS)
    result = run(model, x, merge=merge, policy=BudgetMap((first, second)), rows=4)
    assert result.calls_per_region == [list(first), list(second)]
    total = sum(first) + sum(second)
    assert (result.work.rows, result.work.latent_cells) == (total, total * 144)
    rounds = [sum(steps > i for steps in first + second) for i in range(6)]
    assert result.work.calls == sum(math.ceil(active / 4) for active in rounds)
    assert sum(rows * calls for rows, calls in result.work.batch_sizes.items()) == total
    assert result.exit_reasons == [["complete"] * len(REGIONS)] * 2


def test_aggregation_refuses_regions_that_part():
    model, x = problem()
    with pytest.raises(ValueError, match="keeps all regions in step"):
        run(model, x, merge=AGGREGATE, policy=UNEVEN)


@pytest.mark.parametrize("merge", MergeMode)
def test_out_of_memory_halves_the_rows_and_changes_nothing(merge):
    model, x = problem()

    def small(tiles, sigma, rows):
        if len(rows) > 2:
            raise MemoryError("full")
        return model(tiles, sigma, rows)

    watched = WatchedRun(is_out_of_memory=lambda error: isinstance(error, MemoryError))
    result = run(small, x, merge=merge, rows=8, observer=watched)
    assert result.work.halvings == 2 and max(result.work.batch_sizes) == 2
    assert torch.equal(result.samples, run(model, x, merge=merge, rows=2).samples)
    with pytest.raises(MemoryError):
        run(small, x, merge=merge, rows=8)


def overflowing(model, region_id):
    def broken(tiles, sigma, rows):
        x0 = model(tiles, sigma, rows).clone()
        for i, row in enumerate(rows):
            if row.region_id == region_id and sigma[i] == 2.0:
                x0[i, 0, 0, 0] = math.inf
        return x0

    return broken


def test_non_finite_rows_are_predicted_once_more_in_full_precision():
    model, x = problem()
    retried = []

    def precise(tiles, sigma, rows):
        retried.append([row.region_id for row in rows])
        return model(tiles, sigma, rows)

    result = run(overflowing(model, 3), x, full_precision=precise)
    assert retried == [[3]] and result.work.float32_retries == 1
    assert torch.equal(result.samples, run(model, x).samples)


@pytest.mark.parametrize("merge", MergeMode)
@pytest.mark.parametrize(("name", "policy"), [("dpmpp_2m", None), ("euler_ancestral", None), ("euler", UNEVEN)])
def test_a_look_a_round_later_changes_nothing_but_the_calls_that_are_made_again(monkeypatch, merge, name, policy):
    if merge is AGGREGATE and policy is UNEVEN:
        pytest.skip("aggregate keeps all regions in step")
    model, x = problem(images=2)
    broken, made, moves = overflowing(model, 3), [], {}

    def counted(tiles, sigma, rows):
        made.append(len(rows))
        return broken(tiles, sigma, rows)

    class Watched(WatchedRun):
        def moved(self, row, level, reason):
            moves[row.key] = (level, reason)

    def watched():
        made.clear(), moves.clear(), previews.clear()
        watcher = Watched(preview=lambda x0, *_: previews.append(x0.clone()))
        found = run(counted, x, name=name, merge=merge, policy=policy, full_precision=model, observer=watcher)
        return found, len(made), dict(moves), list(previews)

    previews = []
    expected, calls, arrived, shown = watched()
    monkeypatch.setattr(region_loop, "defers_check", lambda device: True)
    found, later_calls, later_arrived, later_shown = watched()
    assert found.work.float32_retries and later_calls > calls
    assert torch.equal(found.samples, expected.samples) and found.work == expected.work
    assert (found.calls_per_region, found.exit_reasons) == (expected.calls_per_region, expected.exit_reasons)
    assert later_arrived == arrived
    assert len(later_shown) == len(shown) and all(map(torch.equal, later_shown, shown)), "no preview of what overflowed"


def test_without_overflow_a_look_a_round_later_makes_no_call_more(monkeypatch):
    monkeypatch.setattr(region_loop, "defers_check", lambda device: True)
    model, x = problem()
    made = []

    def counted(tiles, sigma, rows):
        made.append(len(rows))
        return model(tiles, sigma, rows)

    found = run(counted, x, rows=len(REGIONS))
    assert len(made) == found.work.calls == len(SIGMAS[VE]) - 1


@pytest.mark.parametrize("name", ["proxies", "moves"])
def test_a_call_that_overflows_is_measured_when_it_is_repeated(name):
    model, x = problem()
    times = [900.0, 700.0, 500.0, 300.0, 200.0, 100.0]

    def observe():
        return ProxyGains(model.mean, times) if name == "proxies" else Moves()

    plain, broken = observe(), observe()
    expected = run(model, x, observer=WatchedRun(observe=plain))
    found = run(overflowing(model, 3), x, full_precision=model, observer=WatchedRun(observe=broken))
    assert found.work.float32_retries == 1 and torch.equal(found.samples, expected.samples)
    assert broken.latest == plain.latest


def test_rows_that_stay_non_finite_are_an_error_with_region_and_image():
    model, x = problem(images=2)
    broken = overflowing(model, 3)
    for again in (None, broken):
        with pytest.raises(ValueError, match=r"not finite for region 4 .* of image 1 at sigma 2"):
            run(broken, x, full_precision=again)


def test_a_cancel_ends_the_run_within_one_call():
    model, x = problem()
    calls = []

    def counted(tiles, sigma, rows):
        calls.append(len(rows))
        return model(tiles, sigma, rows)

    def cancel(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(counted, x, rows=2, observer=WatchedRun(step=cancel))
    assert calls == [2, 2, 2, 2]


@pytest.mark.parametrize("merge", MergeMode)
def test_progress_counts_rows_up_to_the_plan_and_previews_show_the_canvas(merge):
    model, x = problem()
    steps, previews = [], []
    watched = WatchedRun(
        step=lambda *now: steps.append(now), preview=lambda x0, *now: previews.append((x0.clone(), now))
    )
    result = run(model, x, merge=merge, observer=watched)
    assert steps[-1] == (6 * len(REGIONS), 6 * len(REGIONS))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert len(previews) == 6 and close(previews[-1][0], result.samples, 0.2)


class StopsAtItsBest:
    """Goes level by level, remembers its second call, and ends after its third with what it remembers."""

    def __init__(self):
        self.gains = []

    def planned_calls(self, row, levels):
        return levels - 1

    def decide(self, row, index, levels, gains):
        self.gains.append(gains)
        if index < 2:
            return Decision(index + 1, keep=index == 1)
        return Decision(levels - 1, reason="saturated", restore=True)


def test_a_policy_can_stop_early_with_an_earlier_prediction():
    model, x = problem()
    policy, seen, steps = StopsAtItsBest(), {}, []

    def observe(rows, x0, levels):
        seen.update({(row.region_id, level): tile for row, level, tile in zip(rows, levels, x0)})
        return [{"gain": float(level)} for level in levels]

    watched = WatchedRun(observe=observe, step=lambda *now: steps.append(now))
    regions = grid(*SIZE, 10, 0)
    result = run(model, x, regions=regions, policy=policy, observer=watched)
    assert close(result.samples[..., :10, :10], seen[0, 1][None], 1e-6)
    assert result.exit_reasons == [["saturated"] * len(regions)]
    assert result.calls_per_region == [[3] * len(regions)]
    assert {gains["gain"] for gains in policy.gains} == {0.0, 1.0, 2.0}
    assert steps[0][1] == 6 * len(regions)


@pytest.mark.parametrize("merge", MergeMode)
def test_a_canvas_of_float64_is_sampled_in_it(merge):
    model, x = problem()
    model.mean = model.mean.double()
    result = run(model, x.double(), merge=merge)
    assert result.samples.dtype == torch.float64
    single = run(model, x, merge=merge).samples
    assert single.dtype == torch.float32 and close(result.samples.float(), single)
    assert 0 < float((result.samples - single).abs().max()) < 1e-4


def test_regions_in_step_get_the_mean_of_their_gains():
    model, x = problem(images=2)
    policy = StopsAtItsBest()

    def observe(rows, x0, levels):
        return [{"all": float(row.region_id + 10 * row.image), f"only {row.region_id}": 1.0} for row in rows]

    run(model, x, merge=AGGREGATE, policy=policy, observer=WatchedRun(observe=observe))
    mean = (len(REGIONS) - 1) / 2
    assert {gains["all"] for gains in policy.gains} == {mean, mean + 10}
    assert all(gains[f"only {i}"] == 1.0 for gains in policy.gains for i in range(len(REGIONS)))


def test_two_halves_of_a_grid_are_the_whole_grid():
    network, x = TileNetwork(), canvas(1, 4, *SIZE) * 9
    whole = run(network, x, merge=AGGREGATE).samples
    half = run(network, x, merge=AGGREGATE, sigmas=SIGMAS[VE][:4]).samples
    assert torch.equal(run(network, half, merge=AGGREGATE, sigmas=SIGMAS[VE][3:]).samples, whole)


def test_half_precision_models_and_latents_are_accumulated_in_float32():
    model, x = problem()
    result = run(lambda *args: model(*args).half(), x.half(), merge=AGGREGATE)
    assert result.samples.dtype == torch.float32
    assert close(result.samples, run(model, x).samples, 1e-2)


def test_a_canvas_below_the_tile_is_one_region_of_its_size():
    network, x = TileNetwork(), canvas(1, 4, 7, 9) * 9
    regions = grid(7, 9, 16, 4)
    assert len(regions) == 1
    assert run(network, x, regions=regions).samples.shape == x.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": [1.0]}, "at least two"),
        ({"sigmas": [1.0, 2.0, 0.0]}, "fall"),
        ({"sigmas": [1.0, math.nan]}, "finite"),
        ({"sigmas": [1.0, 0.0, 0.0]}, "fall"),
        ({"regions": []}, "one size"),
        ({"regions": [Region(0, 0, 8, 8), Region(0, 8, 8, 9)]}, "one size"),
        ({"regions": [Region(0, 0, 12, 12)]}, "uncovered"),
        ({"regions": [Region(9, 0, 12, 12)]}, "does not lie"),
        ({"window": torch.ones(3, 3)}, "window"),
    ],
)
def test_what_cannot_be_run_is_refused(change, message):
    model, x = problem()
    with pytest.raises(ValueError, match=message):
        run(model, x, **change)


def test_video_latents_are_refused():
    model, x = problem()
    with pytest.raises(ValueError, match="video"):
        run(model, x[:, :, None])


def test_crops_follow_their_rows():
    picture = canvas(2, 4, *SIZE)
    rows = rows_of(REGIONS, 2)
    assert torch.equal(crops(picture, rows[-1:])[0], picture[(1, slice(None), *REGIONS[-1].slices)])


def test_step_noise_is_drawn_once_for_levels_arrived_at_in_turn_and_never_kept_for_huge_canvases(monkeypatch):
    x = torch.zeros(2, 3, 5, 4)
    noise = canvas_noise(x, 7)
    torch.testing.assert_close(noise(3), gaussian_field((3, 5, 4), seed=7, step=3), rtol=0, atol=0)
    assert noise(3) is noise(3)
    monkeypatch.setattr("adaptivesr.sampling.adaptive.sampler.MOST_NOISE_BYTES", 4 * 3 * 5 * 4 - 1)
    huge = canvas_noise(x, 7)
    assert huge(3) is not huge(3) and torch.equal(huge(3), noise(3))
