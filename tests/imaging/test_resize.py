import pytest
import torch
import torch.nn.functional as F
from adaptivesr.imaging import resize


def test_reflection_equals_the_frameworks_where_that_works():
    image = torch.rand(1, 3, 20, 27)
    expected = F.pad(image, (0, 5, 0, 12), mode="reflect")
    assert torch.equal(resize.pad_to_multiple(image, 32), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (33, 64)])
def test_any_image_can_be_padded(size):
    image = torch.rand(2, 3, *size)
    padded = resize.pad_to_multiple(image, 64)
    assert padded.shape[-2:] == (64, 64)
    assert torch.equal(padded[..., : size[0], : size[1]], image)


def test_a_resize_to_the_same_size_changes_nothing():
    image = torch.rand(1, 3, 5, 7)
    assert resize.resize(image, 5, 7) is image
    assert resize.resize(image, 10, 3).shape == (1, 3, 10, 3)


def test_an_empty_target_is_refused():
    with pytest.raises(ValueError, match="at least 1x1"):
        resize.resize(torch.rand(1, 3, 5, 7), 0, 3)


def test_bicubic_resize_continues_bicubic_upsample():
    image = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(resize.bicubic_resize(image, 20, 28), resize.bicubic_upsample(image, 4))
    assert resize.bicubic_resize(image, 5, 7) is image
    assert resize.bicubic_resize(image, 11, 9).shape == (2, 3, 11, 9)
