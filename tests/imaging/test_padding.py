"""Reflection around small images, and its removal."""

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.imaging.padding import to_chop, to_patch
from adaptivesr.imaging.resize import reflect_around

SIZES = [(1, 1), (1, 40), (3, 4), (15, 16), (16, 16), (17, 33), (7, 50)]


@pytest.mark.parametrize("make", [lambda h, w: to_patch(h, w, 16, 2), lambda h, w: to_chop(h, w, 16, 16)])
@pytest.mark.parametrize("size", SIZES)
def test_cropping_gives_back_the_image(make, size):
    image = torch.rand(2, 3, *size)
    padding = make(*size)
    padded = padding.extend(image)
    assert tuple(padded.shape[2:]) == (padding.height, padding.width) and min(padded.shape[2:]) >= 16
    assert torch.equal(padding.crop(padded, 1), image)
    large = F.interpolate(padded, scale_factor=4, mode="nearest")
    assert torch.equal(padding.crop(large, 4), F.interpolate(image, scale_factor=4, mode="nearest"))
    assert padding.is_empty == (padded.shape == image.shape)


def test_what_is_before_is_a_whole_number_of_cells():
    for side in range(1, 70):
        padding = to_patch(side, 64, 64, 4)
        assert padding.top % 4 == 0 and padding.height % 4 == 0 and padding.left == 0


def test_one_reflection_equals_torch_and_repeats_where_torch_refuses():
    image = torch.rand(1, 1, 5, 9)
    expected = F.pad(image, (3, 2, 4, 1), mode="reflect")
    assert torch.equal(reflect_around(image, 4, 3, 10, 14), expected)
    line = torch.tensor([[[[10.0, 20.0, 30.0]]]])
    found = reflect_around(line, 0, 5, 1, 12).flatten().tolist()
    assert found == [20.0, 10.0, 20.0, 30.0, 20.0, 10.0, 20.0, 30.0, 20.0, 10.0, 20.0, 30.0]


@pytest.mark.parametrize("size", [(5, 30), (3, 4), (2, 7), (11, 16)])
def test_growing_again_and_again_is_one_reflection(size):
    patch, image = 16, torch.rand(1, 1, *size)
    top = left = 0
    grown = image
    while min(grown.shape[2:]) < patch:  # the procedure of the published code
        pads = []
        for side in grown.shape[2:]:
            lead = max(min((patch - side) // 2, side - 1), 0)
            pads.append((lead, max(min(patch - side - lead, side - 1), 0)))
        (above, below), (before, after) = pads
        grown = F.pad(grown, (before, after, above, below), mode="reflect")
        top, left = top + above, left + before
    padding = to_chop(*size, patch, 1)
    assert (padding.top, padding.left) == (top, left)
    assert torch.equal(padding.extend(image), grown)
