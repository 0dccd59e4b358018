from pathlib import Path

import pytest
import torch
from adaptivesr.imaging import color
from adaptivesr.imaging.color import ColorFix
from safetensors.torch import load_file

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "stablesr" / "13_color_correction.safetensors")


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 40, 56, generator=generator), torch.rand(2, 3, 10, 14, generator=generator) * 0.5


def test_adain_and_wavelet_equal_the_reference():
    content, style = GOLDEN["in.content"], GOLDEN["in.style"]
    torch.testing.assert_close(color.adain(content, style), GOLDEN["out.adain"], atol=1e-5, rtol=0)
    torch.testing.assert_close(color.wavelet_color_fix(content, style), GOLDEN["out.wavelet"], atol=1e-5, rtol=0)


def test_luma_is_kept_and_chroma_taken(pair):
    image, reference = pair[0] * 0.4 + 0.3, pair[0].flip(1) * 0.2 + 0.4  # far from the gamut's edge
    fixed = color.rgb_to_ycbcr(color.ycbcr_transfer(image, reference))
    torch.testing.assert_close(fixed[:, :1], color.rgb_to_ycbcr(image)[:, :1], atol=1e-4, rtol=0)
    torch.testing.assert_close(fixed[:, 1:], color.rgb_to_ycbcr(reference)[:, 1:], atol=1e-4, rtol=0)


def test_moments_become_those_of_the_reference(pair):
    image, reference = pair
    fixed = color.adain(image, reference)
    torch.testing.assert_close(fixed.mean((2, 3)), reference.mean((2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(fixed.std((2, 3)), reference.std((2, 3)), atol=1e-3, rtol=0)


def test_lab_moments_become_those_of_the_reference(pair):
    import kornia.color as kc

    image, reference = pair[0] * 0.4 + 0.3, pair[1] * 0.4 + 0.4  # far from the gamut's edge
    lab = kc.rgb_to_lab(color.lab_transfer(image, reference))
    torch.testing.assert_close(lab.mean((2, 3)), kc.rgb_to_lab(reference).mean((2, 3)), atol=0.5, rtol=0)


@pytest.mark.parametrize("mode", list(ColorFix))
def test_an_image_is_its_own_fixpoint(mode, pair):
    image = pair[0] * 0.8 + 0.1
    torch.testing.assert_close(color.match_color(image, image, mode), image, atol=2e-4, rtol=0)


@pytest.mark.parametrize("mode", list(ColorFix))
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_tiny_and_mismatched_sizes_work(mode, size, pair):
    image = torch.rand(2, 3, *size)
    fixed = color.match_color(image, pair[1], mode)
    assert fixed.shape == image.shape and torch.isfinite(fixed).all()


@pytest.mark.parametrize("mode", list(ColorFix))
def test_a_batch_equals_single_images(mode, pair):
    image, reference = pair
    batch = color.match_color(image, reference, mode)
    singles = [color.match_color(image[i : i + 1], reference[i : i + 1], mode) for i in range(2)]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-6, rtol=0)


def test_a_constant_tint_is_removed_by_the_wavelet_fix(pair):
    reference = pair[0]
    tinted = reference + torch.tensor([0.1, -0.05, 0.02]).view(1, 3, 1, 1)
    torch.testing.assert_close(color.wavelet_color_fix(tinted, reference), reference, atol=1e-5, rtol=0)


def test_bands_sum_to_the_image(pair):
    high, low = color.wavelet_decompose(pair[0], 3)
    torch.testing.assert_close(high + low, pair[0])


def test_reference_count_and_levels_are_checked(pair):
    with pytest.raises(ValueError, match="2 images and 3 references"):
        color.match_color(pair[0], torch.rand(3, 3, 4, 4), ColorFix.ADAIN)
    with pytest.raises(ValueError, match="at least 1 wavelet level"):
        color.match_color(*pair, ColorFix.WAVELET, levels=0)


def test_moments_of_parts_are_those_of_the_whole():
    image = torch.rand(1, 3, 37, 53, generator=torch.Generator().manual_seed(4)) * 100 - 30
    running = color.RunningMoments()
    for part in image.split(10, 2):
        for piece in part.split(17, 3):
            running.add(piece)
    style = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(5))
    wanted = color.RunningMoments()
    wanted.add(style)
    torch.testing.assert_close(
        color.transfer_moments(image, running.moments(), wanted.moments()),
        color.adain(image, style),
        rtol=1e-5,
        atol=1e-5,
    )


def test_moments_of_a_single_pixel_have_no_variance():
    running = color.RunningMoments()
    running.add(torch.full((1, 3, 1, 1), 0.3))
    torch.testing.assert_close(running.moments().deviation, torch.full((1, 3, 1, 1), 1e-5).sqrt())
