import json
from dataclasses import asdict
from pathlib import Path

import pytest
from adaptivesr.imaging.tile_plan import Sizes, fit
from adaptivesr.imaging.tiles import grid
from adaptivesr.sampling.network_cost import COUNTED, NetworkCost
from adaptivesr.sampling.tiled.one_step_sr import Plan, Tiling

RESULTS = Path(__file__).parents[2] / "tools" / "bench" / "results" / "flops.json"


def test_the_stored_coefficients_are_those_that_were_counted():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    counted = {name: {key: row[key] for key in ("fixed", "per_cell", "per_pair")} for name, row in rows.items()}
    assert {name: asdict(cost) for name, cost in COUNTED.items()} == counted


def test_the_cost_is_symmetric_and_grows_faster_than_the_cells():
    cost = NetworkCost(0, 2, 3)
    assert cost(4, 6) == cost(6, 4) == 2 * 24 + 3 * 24**2
    assert cost(8, 6) > 2 * cost(4, 6)


@pytest.mark.parametrize(("name", "side", "tflop"), [("SD 1.5", 64, 0.803), ("SDXL", 128, 6.76)])
def test_counts_are_those_of_the_published_networks(name, side, tflop):
    assert COUNTED[name](side, side) / 1e12 == pytest.approx(tflop, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "sizes"), [("SD 1.5", Sizes(64, 8)), ("SD 2.1", Sizes(64, 8)), ("SD 2.1", Sizes(96, 8))]
)
def test_512_to_2048_pixels_with_guidance_takes_at_most_0_166_latent_megapixels(name, sizes):
    assert 2 * fit(256, 256, sizes, 8, COUNTED[name]).cells / 1e6 <= 0.166


@pytest.mark.parametrize(
    ("name", "size", "multiple", "before", "overlap"),
    [("SD 1.5", 64, 8, 16, 8), ("SD 2.1", 96, 8, 24, 8), ("SDXL", 128, 4, 32, 32)],
)
def test_tiles_that_fit_take_1_3_times_less_work_on_the_mean_of_canvases(name, size, multiple, before, overlap):
    cost, ratios = COUNTED[name], []
    for side in range(128, 513, 8):
        regions = grid(side, side, size, before)
        fitted = fit(side, side, Sizes(size, multiple), overlap, cost).cost
        ratios.append(len(regions) * cost(regions[0].height, regions[0].width) / fitted)
    assert sum(ratios) / len(ratios) >= 1.3


@pytest.mark.parametrize("steps", [1, 4])
def test_one_step_tiles_that_fit_take_a_fifth_less_work_on_the_mean_and_never_more(steps):
    encoder, decoder, denoiser = (COUNTED[name] for name in ("VQ-f4 encoder", "VQ-f4 decoder", "ResShift"))
    cost = encoder.plus(denoiser, steps)

    def work(side, tiling):
        plan = Plan(1, side, side, lq_factor=1, downscale=4, size_multiple=64, tiling=tiling, steps=steps)
        parts = plan.decode_parts(plan.decode_size)
        tiles = sum(cost(region.height, region.width) for region in plan.regions)
        return tiles + sum(decoder(part.outer.height, part.outer.width) for part in parts)

    fitted = Tiling(320, 32, sizes=Sizes(256, 64), tile_cost=cost, part_cost=decoder)
    ratios = [work(side, Tiling(256, 32)) / work(side, fitted) for side in range(256, 1025, 32)]
    assert min(ratios) >= 1
    assert sum(ratios) / len(ratios) >= 1.25


def test_networks_in_a_row_cost_their_sum():
    one, other = NetworkCost(1, 2, 3), NetworkCost(5, 7, 11)
    assert one.plus(other, 4)(6, 8) == one(6, 8) + 4 * other(6, 8)
