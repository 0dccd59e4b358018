"""Pad or Crop: what it adds it takes away again, and nothing else."""

import pytest
import torch

SIZES = [(1, 1), (1, 70), (33, 17), (64, 8), (7, 69)]


@pytest.fixture
def pad_or_crop(comfy):
    def run(image, **inputs):
        return comfy.node("AdaptiveSRPadOrCrop").execute(image, **inputs).args[0]

    return run


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("multiple", [1, 8, 64])
@pytest.mark.parametrize("channels", [3, 4])
def test_cutting_back_gives_the_picture_itself(pad_or_crop, width, height, multiple, channels):
    picture = torch.rand(2, height, width, channels, generator=torch.Generator().manual_seed(width))
    extended = pad_or_crop(picture, multiple=multiple)
    assert tuple(extended.shape) == (2, -(-height // multiple) * multiple, -(-width // multiple) * multiple, channels)
    assert torch.equal(pad_or_crop(extended, original=picture), picture)


def test_what_is_added_is_the_reflection(pad_or_crop):
    row = torch.arange(5).div(8)[None, None, :, None].expand(1, 1, 5, 3)
    extended = pad_or_crop(row, multiple=8)
    assert (extended[0, 3, :, 0] * 8).tolist() == [0, 1, 2, 3, 4, 3, 2, 1]


def test_a_picture_that_fits_is_given_on(pad_or_crop):
    picture = torch.rand(1, 16, 8, 3)
    assert torch.equal(pad_or_crop(picture), picture)
    assert torch.equal(pad_or_crop(picture, original=picture), picture)


def test_one_original_cuts_a_batch(pad_or_crop):
    assert pad_or_crop(torch.rand(3, 16, 16, 3), original=torch.rand(1, 9, 7, 3)).shape == (3, 9, 7, 3)


def test_a_result_below_the_original_is_a_sentence(pad_or_crop):
    with pytest.raises(ValueError, match=r"image of 8x8 pixels to be cut to the original's 7x9"):
        pad_or_crop(torch.rand(1, 8, 8, 3), original=torch.rand(1, 9, 7, 3))
