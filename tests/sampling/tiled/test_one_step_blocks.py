"""A picture in blocks is the whole picture, whatever the cut; the noise of a place is the same in every rectangle that holds it."""

import pytest
import torch
from adaptivesr.imaging.color import ColorFix
from adaptivesr.models.compact_denoiser import CompactDenoiser, CompactDenoiserConfig
from adaptivesr.models.pixel_autoencoder import PixelAutoencoder
from adaptivesr.sampling.noise import NOISE_CELL, gaussian_region
from adaptivesr.sampling.schedules import ResidualShiftSchedule
from adaptivesr.sampling.tiled import one_step_sr
from adaptivesr.sampling.tiled.one_step_blocks import BlockSettings, BlockUpscaler, cut
from adaptivesr.sampling.tiled.one_step_sr import Chain, Tiling

SCHEDULE = ResidualShiftSchedule((0.1, 0.5, 0.9), 0.2, (0, 1, 2))
SIZE = 47, 58


class Denoiser:
    lq_factor, size_multiple = 1, 1

    def __init__(self):
        torch.manual_seed(5)
        config = CompactDenoiserConfig(channels=6, blocks=3, time_channels=8, num_steps=3)
        self.network, self.receptive_field = CompactDenoiser(config).eval(), config.receptive_field

    def __call__(self, x, timesteps, lq, *, full_precision=False):
        return self.network(x, timesteps, lq)


class Runtime:
    def step(self, rows):
        pass

    def is_out_of_memory(self, error):
        return False


@pytest.fixture
def picture():
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def upscaler(color_fix=None, reach=None, seed=3):
    denoiser = Denoiser()
    field = denoiser.receptive_field if reach is None else reach
    return BlockUpscaler(denoiser, PixelAutoencoder(), SCHEDULE, field, BlockSettings(seed, color_fix, 3))


@torch.inference_mode()
def whole(made, picture, side):
    result = torch.full((1, 3, 4 * SIZE[0], 4 * SIZE[1]), float("nan"))
    for block in cut(*SIZE, side, made.halo):
        result[(..., *block.inner.scaled(4).slices)] = made(picture[(..., *block.outer.slices)], block, SIZE)
    return result


@pytest.mark.parametrize("color_fix", [None, ColorFix.WAVELET, ColorFix.YCBCR])
def test_the_cut_makes_no_difference_beyond_rounding(picture, color_fix):
    made = upscaler(color_fix)
    one = whole(made, picture, 1000)
    for side in (16, 21, 40):
        torch.testing.assert_close(whole(made, picture, side), one, rtol=0, atol=3e-6)


def test_fewer_pixels_around_a_block_would_show(picture):
    """The halo is what is needed: with one pixel less some cell of the border sees something else."""
    made = upscaler()
    short = upscaler(reach=made.receptive_field - 2)
    difference = (whole(short, picture, 16) - whole(made, picture, 1000)).abs().amax()
    assert difference > 1e-5


def test_one_block_is_the_plain_run_with_the_noise_of_the_place(picture, monkeypatch):
    made = upscaler()

    def field(shape, *, seed, step, device):
        return gaussian_region(shape[0], 0, 0, *shape[1:], seed=seed, step=step).to(device)

    monkeypatch.setattr(one_step_sr, "gaussian_field", field)
    with torch.inference_mode():
        plain, _ = one_step_sr.upscale(
            picture * 2 - 1,
            denoiser=made.denoiser,
            autoencoder=made.autoencoder,
            schedule=SCHEDULE,
            chain=Chain.ONE_STEP,
            seed=3,
            tiling=Tiling(64, 8),
            runtime=Runtime(),
        )
    torch.testing.assert_close(whole(made, picture, 1000), ((plain + 1) / 2).clamp(0, 1), rtol=0, atol=2e-6)
    other = upscaler(seed=4)
    assert not torch.equal(whole(other, picture, 1000), whole(made, picture, 1000)), "the seed counts"


def test_noise_belongs_to_places():
    large = gaussian_region(2, 0, 0, 3 * NOISE_CELL, 2 * NOISE_CELL + 5, seed=9)
    part = gaussian_region(2, 50, 60, 100, 40, seed=9)
    assert torch.equal(part, large[:, 50:150, 60:100])
    assert abs(float(large.mean())) < 0.02 and float(large.std()) == pytest.approx(1, abs=0.02)
    cells = large[:, :NOISE_CELL, :NOISE_CELL], large[:, NOISE_CELL : 2 * NOISE_CELL, :NOISE_CELL]
    assert abs(float((cells[0] * cells[1]).mean())) < 0.05, "cells are independent of each other"
    assert not torch.equal(part, gaussian_region(2, 50, 60, 100, 40, seed=9, step=1))


def test_blocks_cover_the_picture_once():
    count = torch.zeros(SIZE)
    for block in cut(*SIZE, 20, 7):
        count[block.inner.slices] += 1
        outer = block.outer
        assert outer.y >= 0 and outer.x >= 0 and outer.y + outer.height <= SIZE[0] and outer.x + outer.width <= SIZE[1]
    assert torch.equal(count, torch.ones(SIZE))


def test_statistics_of_the_whole_picture_are_refused():
    with pytest.raises(ValueError, match="statistics of the whole picture: expected wavelet, ycbcr or none"):
        BlockSettings(0, ColorFix.ADAIN)
