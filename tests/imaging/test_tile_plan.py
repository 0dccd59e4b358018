from itertools import pairwise

import pytest
import torch
from adaptivesr.imaging import tile_plan
from adaptivesr.imaging.tile_plan import Axis, Sizes, area, cheaper, even_grid, fit, safer
from adaptivesr.imaging.tiles import grid

CANVASES = [(1, 1, 8, 2), (5, 40, 8, 2), (64, 64, 64, 32), (33, 50, 16, 4), (100, 17, 16, 0), (129, 65, 64, 8)]
SD15 = Sizes(64, 8)


def attention(height, width):
    return height * width + 1e-4 * (height * width) ** 2


def covered(regions, height, width):
    cells = {(y, x) for r in regions for y in range(r.y, r.y + r.height) for x in range(r.x, r.x + r.width)}
    return cells == {(y, x) for y in range(height) for x in range(width)}


@pytest.mark.parametrize(("height", "width", "size", "overlap"), CANVASES)
def test_even_regions_are_as_many_and_as_large_as_the_published_grids(height, width, size, overlap):
    ours, published = even_grid(height, width, size, overlap), grid(height, width, size, overlap)
    assert [(r.height, r.width) for r in ours] == [(r.height, r.width) for r in published]
    assert covered(ours, height, width)
    columns = sorted({r.x for r in ours})
    assert all(left + ours[0].width - right >= overlap for left, right in pairwise(columns))


@pytest.mark.parametrize(("height", "width", "size", "overlap"), CANVASES)
def test_snug_regions_are_as_many_and_no_smaller_would_do(height, width, size, overlap):
    regions = tile_plan.snug_grid(height, width, size, overlap)
    assert covered(regions, height, width) and len(regions) == len(grid(height, width, size, overlap))
    for length in (height, width):
        axis = tile_plan.snug(length, size, overlap)
        assert axis.size <= size and axis.overlap >= min(overlap, axis.size)
        if axis.count > 1:
            assert Axis(length, axis.size - 1, axis.count).overlap < overlap


def test_the_last_tile_does_not_double_its_neighbour():
    assert Axis(256, 96, 4).starts == [0, 53, 107, 160]  # the published grid: 0, 72, 144, 160
    gaps = {b - a for a, b in pairwise(tile_plan.fixed(509, 64, 16).starts)}
    assert max(gaps) - min(gaps) <= 1


def test_a_grid_that_fits_already_stays():
    assert even_grid(112, 160, 64, 16) == grid(112, 160, 64, 16)


@pytest.mark.parametrize(
    ("length", "sizes", "overlap", "count", "size"),
    [
        (128, Sizes(64), 16, 2, 72),  # 3 x 3 of 64
        (256, Sizes(96), 24, 3, 102),  # 4 x 4 of 96
        (256, Sizes(128), 32, 2, 144),  # 3 x 3 of 128
        (256, Sizes(64), 16, 4, 76),  # 5 x 5 of 64
        (256, Sizes(96, 8), 24, 3, 104),
        (256, Sizes(96, 8), 16, 3, 96),
    ],
)
def test_the_choice_by_hand(length, sizes, overlap, count, size):
    found = fit(length, length, sizes, overlap, area)
    assert (found.rows, found.columns) == (Axis(length, size, count),) * 2


@pytest.mark.parametrize("length", [1, 16, 48, 80, 81, 100, 256, 509])
@pytest.mark.parametrize("overlap", [0, 8, 16, 40])
def test_the_choice_covers_and_overlaps_enough(length, overlap):
    axis = fit(length, 64, SD15, overlap, attention).rows
    assert axis.starts[0] == 0 and axis.starts[-1] + axis.size == length
    assert all(right <= left + axis.size - min(overlap, length) for left, right in pairwise(axis.starts))
    assert axis.size == length if length <= 80 else axis.size in SD15.choices


@pytest.mark.parametrize(("height", "width"), [(81, 96), (100, 300), (256, 256), (509, 90)])
@pytest.mark.parametrize("overlap", [0, 8, 16])
def test_no_square_tiles_of_these_sizes_cost_less_than_the_choice(height, width, overlap):
    found = fit(height, width, SD15, overlap, attention)
    for size in SD15.choices:
        squares = sum(attention(r.height, r.width) for r in even_grid(height, width, size, overlap))
        assert found.cost <= squares * (1 + 1e-9)


def test_width_and_height_are_chosen_apart():
    found = fit(72, 256, Sizes(64, 4), 16, area)
    assert (found.rows, found.columns) == (Axis(72, 72, 1), Axis(256, 76, 4))


def test_attention_prefers_more_and_smaller_tiles():
    def square(height, width):
        return (height * width) ** 2

    assert fit(256, 256, SD15, 16, area).count >= 25
    assert fit(232, 232, SD15, 8, area).count < fit(232, 232, SD15, 8, square).count


def test_sizes_keep_to_the_multiple_near_the_trained_side():
    assert list(Sizes(64, 8).choices) == [48, 56, 64, 72, 80]
    assert list(Sizes(256, 64).choices) == [192, 256, 320]
    assert list(Sizes(40, 64).choices) == [64]


def test_cheaper_overlaps_less_and_safer_overlaps_more():
    found = fit(256, 256, SD15, 16, area)
    less, more = cheaper(found, SD15, area), safer(found, SD15, area)
    assert less.cost < found.cost and less.overlap < found.overlap
    assert more.overlap > found.overlap and more.cost >= found.cost
    for overlap in range(less.overlap + 1, found.overlap + 1):
        assert fit(256, 256, SD15, overlap, area).cost >= found.cost


def test_one_tile_has_nothing_cheaper_and_nothing_safer():
    found = fit(64, 80, SD15, 16, area)
    assert found.count == 1 and cheaper(found, SD15, area) is None and safer(found, SD15, area) is None


@pytest.mark.parametrize("overlap", [-1, 41])
def test_an_impossible_overlap_is_named(overlap):
    with pytest.raises(ValueError, match="overlap of 0 to 40"):
        fit(256, 256, SD15, overlap, area)


@pytest.mark.parametrize(("length", "size", "count"), [(112, 64, 2), (160, 64, 3), (256, 76, 4), (100, 60, 2)])
def test_weights_of_neighbours_that_share_alike_sum_to_one(length, size, count):
    axis, total = Axis(length, size, count), torch.zeros(length)
    for start in axis.starts:
        total[start : start + size] += axis.weights
    shared = slice(axis.overlap, length - axis.overlap)
    assert axis.weights.min() > 0
    torch.testing.assert_close(total[shared], torch.ones(length)[shared])


def test_a_tile_weighs_next_to_nothing_where_it_ends_and_one_alone_weighs_the_same_everywhere():
    assert Axis(256, 160, 2).weights[0] < 0.01 and Axis(256, 138, 2).weights[0] < 0.01
    assert (Axis(64, 64, 1).weights == 1).all()


def test_cheaper_tiles_share_enough_to_hide_seams():
    found = fit(256, 256, SD15, SD15.least_overlap, area)
    less = cheaper(found, SD15, area)
    assert SD15.least_overlap == 6 and (less is None or less.overlap >= 6)
