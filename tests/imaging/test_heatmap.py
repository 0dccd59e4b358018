"""Heat maps show each region's own number, and colours that rise with it."""

import torch
from adaptivesr.imaging.heatmap import colorize, overlay, owners, paint
from adaptivesr.imaging.tiles import grid


def test_every_cell_belongs_to_a_region_that_covers_it_and_every_region_keeps_its_middle():
    regions = grid(23, 40, 12, 4)
    owner = owners(regions, 23, 40)
    for y in range(23):
        for x in range(40):
            region = regions[int(owner[y, x])]
            assert region.y <= y < region.y + region.height and region.x <= x < region.x + region.width
    for index, region in enumerate(regions):
        assert owner[region.y + region.height // 2, region.x + region.width // 2] == index


def test_a_map_holds_no_numbers_but_those_of_regions():
    regions = grid(16, 16, 8, 2)
    values = [float(3 * i) for i in range(len(regions))]
    assert set(paint(values, regions, 16, 16).flatten().tolist()) == set(values)


def test_colours_rise_in_lightness_from_low_to_high_and_hold_outside():
    colors = colorize(torch.linspace(-1, 11, 50), 0, 10)
    assert colors.shape == (50, 3) and float(colors.min()) >= 0 and float(colors.max()) <= 1
    lightness = colors @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (lightness.diff() >= -1e-6).all() and lightness[-1] - lightness[0] > 0.6
    assert torch.equal(colorize(torch.tensor([-5.0, 99.0]), 0, 10), colorize(torch.tensor([0.0, 10.0]), 0, 10))
    assert torch.isfinite(colorize(torch.zeros(2), 3, 3)).all()


def test_an_overlay_without_opacity_is_the_picture_and_with_full_opacity_the_map():
    image, colors = torch.rand(2, 9, 15, 3), torch.rand(3, 5, 3)
    assert torch.equal(overlay(image, colors, 0.0), image)
    enlarged = colors.repeat_interleave(3, 0).repeat_interleave(3, 1)
    torch.testing.assert_close(overlay(image, colors, 1.0), enlarged.expand(2, -1, -1, -1))
