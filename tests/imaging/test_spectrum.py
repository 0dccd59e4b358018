"""Power on rings of the spectrum: known spectra, and what the distance sees and does not see."""

import math

import pytest
import torch
from adaptivesr.tools.bench.parts.spectrum import ring_powers, spectrum_difference, spectrum_distance

LOW = 0.125


def noise(seed=0, side=128, count=1):
    return 0.5 + 0.1 * torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def test_white_noise_has_its_variance_on_every_ring():
    powers = ring_powers(noise(count=8), 0.05).mean(0)
    torch.testing.assert_close(powers, torch.full((16,), 0.01), rtol=0.1, atol=0)


def test_a_wave_lies_on_the_ring_of_its_frequency():
    column = torch.arange(128.0)
    wave = (0.5 + 0.2 * torch.cos(2 * math.pi * 0.3 * column)).expand(1, 1, 128, 128)
    powers = ring_powers(wave, 0.0, 0.5, rings=10)[0]
    assert int(powers.argmax()) in (5, 6)  # 0.3 is the edge between rings 5 and 6
    assert float(powers[5:7].sum() / powers.sum()) > 0.99
    turned = ring_powers(wave.transpose(-1, -2), 0.0, 0.5, rings=10)[0]
    torch.testing.assert_close(turned, powers, rtol=1e-4, atol=1e-7)


def test_twice_the_contrast_is_six_decibels_and_the_order_gives_the_sign():
    picture = noise()
    strong = 0.5 + 2 * (picture - 0.5)
    difference = spectrum_difference(strong, picture, LOW)
    torch.testing.assert_close(difference, torch.full((1, 16), 6.02), atol=0.02, rtol=0)
    torch.testing.assert_close(spectrum_difference(picture, strong, LOW), -difference)
    torch.testing.assert_close(spectrum_distance(strong, picture, LOW), difference.mean(1))


def test_equal_pictures_are_at_no_distance_and_blur_is_far():
    picture = noise()
    soft = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    assert float(spectrum_distance(picture, picture, LOW)) == 0
    assert float(spectrum_distance(soft, picture, LOW)) > 6
    assert float(spectrum_difference(soft, picture, LOW).max()) < 0


def test_grain_of_the_right_strength_is_near_though_it_is_another_picture():
    assert float(spectrum_distance(noise(1), noise(2), LOW)) < 1


def test_what_rounding_to_8_bit_removes_is_not_told_apart():
    flat = torch.full((1, 1, 64, 64), 0.5)
    faint = flat + 1e-5 * (noise(side=64) - 0.5)
    assert float(spectrum_distance(faint, flat, LOW)) < 0.01


def test_rows_of_a_batch_are_single_pictures_and_rectangles_are_allowed():
    batch, truth = torch.rand(2, 1, 40, 56), torch.rand(2, 1, 40, 56)
    together = spectrum_distance(batch, truth, LOW)
    alone = torch.cat([spectrum_distance(batch[i : i + 1], truth[i : i + 1], LOW) for i in range(2)])
    torch.testing.assert_close(together, alone)


def test_rings_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="0 <= low < high"):
        ring_powers(noise(), 0.5, 0.125)
