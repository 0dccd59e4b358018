from itertools import pairwise

import pytest
import torch
from adaptivesr.imaging import tiles

CANVASES = [(1, 1, 8, 2), (5, 40, 8, 2), (64, 64, 64, 32), (33, 50, 16, 4), (100, 17, 16, 0), (129, 65, 64, 8)]


@pytest.mark.parametrize(("height", "width", "size", "overlap"), CANVASES)
def test_merging_gathered_tiles_gives_the_canvas_back(height, width, size, overlap):
    canvas = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    regions = tiles.grid(height, width, size, overlap)
    window = tiles.gaussian_window(regions[0].height, regions[0].width)
    merged = tiles.merge(tiles.gather(canvas, regions), regions, canvas.shape, window)
    torch.testing.assert_close(merged, canvas, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "size", "overlap"), CANVASES)
def test_regions_stay_inside_have_one_size_and_overlap_enough(height, width, size, overlap):
    regions = tiles.grid(height, width, size, overlap)
    assert {(r.height, r.width) for r in regions} == {(min(size, height), min(size, width))}
    assert all(r.y + r.height <= height and r.x + r.width <= width for r in regions)
    columns = sorted({r.x for r in regions})
    assert all(left + min(size, width) - right >= overlap for left, right in pairwise(columns))


def test_no_region_is_redundant():
    assert len(tiles.grid(8, 128, 64, 32)) == 3  # 0, 32, 64; the reference's starts would add 64 again at 96
    assert len(tiles.grid(64, 64, 64, 32)) == 1


def test_overlap_zero_is_crop_and_paste():
    canvas = torch.arange(32.0).view(1, 1, 4, 8)
    regions = tiles.grid(4, 8, 4, 0)
    assert [r.x for r in regions] == [0, 4]
    merged = tiles.merge(tiles.gather(canvas, regions), regions, canvas.shape, torch.ones(4, 4))
    assert torch.equal(merged, canvas)


def test_the_reference_keeps_the_inward_shifted_tile():
    assert tiles.starts(25, 8, 6) == [0, 6, 12, 17]
    assert tiles.starts(5, 8, 6) == [0]


@pytest.mark.parametrize("bad", [(8, 8, 4, 4), (8, 8, 4, -1)])
def test_an_impossible_overlap_is_named(bad):
    with pytest.raises(ValueError, match="overlap of 0 to 3"):
        tiles.grid(*bad)


@pytest.mark.parametrize(("height", "width", "size"), [(1, 1, 64), (100, 64, 64), (257, 513, 64), (64, 200, 32)])
def test_parts_are_disjoint_cover_the_canvas_and_their_feathers_sum_to_one(height, width, size):
    parts = tiles.partition(height, width, size, size // 16)
    covered, weights = torch.zeros(height, width), torch.zeros(height, width)
    for part in parts:
        covered[part.inner.slices] += 1
        weights[part.outer.slices] += tiles.feather(part)
    assert torch.equal(covered, torch.ones(height, width))
    torch.testing.assert_close(weights, torch.ones(height, width))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 100), (256, 256), (1000, 77), (65, 65)])
def test_parts_with_margins_cost_at_most_1_3_canvases(height, width):
    parts = tiles.partition(height, width, 64, 4)
    assert sum(part.outer.area for part in parts) <= 1.3 * height * width


def test_gaussian_window_is_symmetric_and_peaks_at_the_centre():
    window = tiles.gaussian_window(8, 6)
    assert torch.equal(window, window.flip(0)) and torch.equal(window, window.flip(1))
    assert window.max() == window[3, 2]
