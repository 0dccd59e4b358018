import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivesr.imaging.degradation import parts as degradation
from adaptivesr.tools.golden import tad_sr
from adaptivesr.tools.golden.vectors import Golden
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden" / "tad_sr" / "degradation.safetensors"
KERNELS = {
    "gaussian": degradation.gaussian_kernel(11, 1.2, 2.5, 0.7),
    "generalized": degradation.generalized_kernel(11, 0.6, 1.2, 2.5, 0.7),
    "plateau": degradation.plateau_kernel(11, 1.5, 1.2, 2.5, 0.7),
    "sinc": degradation.sinc_kernel(11, 2.0),
}


def smooth_image(size=(64, 64), seed=0):
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def test_parts_match_the_golden_vectors():
    results = Golden.run(GOLDEN, tad_sr.CHECKS["degradation"])
    assert len(results) == 10
    assert [result.line() for result in results if not result.ok] == []


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels_sum_to_one_and_are_point_symmetric(kernel):
    assert kernel.sum().item() == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_shape_parameters_of_one_make_the_generalized_kernel_gaussian():
    assert torch.equal(degradation.generalized_kernel(9, 1.0, 1.3), degradation.gaussian_kernel(9, 1.3))


def test_isotropic_kernels_do_not_know_rotation():
    turned = degradation.gaussian_kernel(9, 1.3, 1.3, 0.4)
    torch.testing.assert_close(turned, degradation.gaussian_kernel(9, 1.3))


def test_quarter_turn_swaps_the_sigmas():
    turned = degradation.plateau_kernel(9, 1.5, 1.3, 2.4, math.pi / 2)
    torch.testing.assert_close(turned, degradation.plateau_kernel(9, 1.5, 2.4, 1.3))


def test_first_sigma_lies_along_columns():
    kernel = degradation.gaussian_kernel(9, 3.0, 0.5)
    assert kernel[4, 7] > kernel[7, 4]


def test_padding_a_kernel_changes_nothing_but_its_size():
    small, large = degradation.sinc_kernel(9, 1.8), degradation.sinc_kernel(9, 1.8, 15)
    assert large.shape == (15, 15)
    assert torch.equal(large[3:-3, 3:-3], small)
    assert large.abs().sum().item() == pytest.approx(small.abs().sum().item())


def test_each_sample_gets_its_own_kernel():
    image = smooth_image()
    identity = degradation.pad_kernel(torch.ones(1, 1), 7)
    kernels = torch.stack([identity, degradation.gaussian_kernel(7, 2.0)])
    filtered = degradation.filter_per_sample(image, kernels)
    torch.testing.assert_close(filtered[0], image[0])
    alone = degradation.filter_per_sample(image[1:], kernels[1:])
    torch.testing.assert_close(filtered[1:], alone)
    assert (filtered[1] - image[1]).abs().max() > 1e-3


def test_filtering_keeps_a_constant_up_to_the_border():
    constant = torch.full((2, 3, 9, 12), 0.4)
    kernels = torch.stack([KERNELS["plateau"], KERNELS["sinc"]])
    torch.testing.assert_close(degradation.filter_per_sample(constant, kernels), constant)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: degradation.gaussian_kernel(8, 1.0), "odd"),
        (lambda: degradation.pad_kernel(torch.ones(5, 5), 3), "centre"),
        (lambda: degradation.filter_per_sample(torch.zeros(1, 3, 4, 9), torch.ones(1, 9, 9)), "too small"),
    ],
)
def test_impossible_sizes_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_quantisation_gives_the_nearest_of_256_levels():
    image = smooth_image() * 1.4 - 0.2
    levels = degradation.quantize_to_8bit(image) * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert levels.min() == 0 and levels.max() == 255
    inside = (image > 0) & (image < 1)
    assert (levels / 255 - image)[inside].abs().max() <= 0.5 / 255 + 1e-6


def test_jpeg_error_falls_with_quality():
    image = smooth_image() * 0.8 + 0.1 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    errors = [
        float((degradation.jpeg(image, torch.full((2,), float(q))) - image).square().mean()) for q in (10, 30, 60, 95)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < errors[0]


def test_jpeg_treats_samples_alone_and_keeps_any_size():
    image = smooth_image((21, 35))
    quality = torch.tensor([35.0, 80.0])
    coded = degradation.jpeg(image, quality)
    assert coded.shape == image.shape
    torch.testing.assert_close(coded[1:], degradation.jpeg(image[1:], quality[1:]))
    assert coded.min() >= 0 and coded.max() <= 1


def test_gray_jpeg_is_a_real_codec_with_the_axes_swapped():
    """The luma table is the standard one transposed, so a codec's result on the transposed image is ours transposed."""
    gray = degradation.quantize_to_8bit(smooth_image())[:1, :1]
    gray = (gray + 0.2 * torch.rand(gray.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    pixels = (gray[0, 0] * 255).round().byte()
    buffer = io.BytesIO()
    Image.fromarray(pixels.T.contiguous().numpy(), "L").save(buffer, "JPEG", quality=50)
    codec = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).T / 255
    image = (pixels / 255).expand(1, 3, -1, -1)
    ours = degradation.jpeg(image, torch.tensor([50.0]))[0, 0]
    swapped = degradation.jpeg(image.mT, torch.tensor([50.0]))[0, 0].T
    # At quality 50 the table is unscaled; the codec still rounds the pixels to integers.
    assert (ours - codec).abs().mean() < 0.002
    assert (ours - codec).abs().mean() < 0.5 * (swapped - codec).abs().mean()


def test_sharpening_changes_edges_only_and_stays_in_range():
    image = torch.zeros(1, 3, 64, 160)
    image[..., 80:] = 1.0
    image[..., :40] = torch.linspace(0.0, 0.02, 40)  # below the threshold of 10 levels
    sharp = degradation.usm_sharpen(image * 0.6 + 0.2)
    change = (sharp - image * 0.6 - 0.2).abs().amax((0, 1, 2))
    assert change[:20].max() < 1e-6 and change[70:90].max() > 0.05
    assert sharp.min() >= 0 and sharp.max() <= 1


def test_sharpening_with_weight_zero_changes_nothing():
    image = smooth_image()
    torch.testing.assert_close(degradation.usm_sharpen(image, weight=0.0), image)


def test_sharpening_refuses_images_smaller_than_its_kernel():
    with pytest.raises(ValueError, match="both sides must exceed 25"):
        degradation.usm_sharpen(torch.zeros(1, 3, 25, 60))
