import json
from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.pixel_autoencoder import PixelAutoencoder
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.models.residual_unet import ResidualUNet, ResidualUNetConfig
from adaptivesr.sampling.schedules import residual_shift_schedule
from adaptivesr.sampling.tiled import one_step_sr
from adaptivesr.sampling.tiled.one_step_sr import Chain, Tiling, enlarged_tile, upscale
from safetensors import safe_open
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[2] / "golden" / "tad_sr"


class Network:
    """A Denoiser around a real network; rows and calls are counted, and memory can be made to run out."""

    def __init__(self, network, most_rows=99):
        self.network, self.most_rows, self.calls = network.eval(), most_rows, []
        self.lq_factor, self.size_multiple = network.config.lq_factor, network.config.size_multiple

    def __call__(self, x, timesteps, lq, *, full_precision=False):
        if len(x) > self.most_rows:
            raise MemoryError
        self.calls.append(len(x))
        return self.network(x, timesteps, lq)


class Recorder:
    def __init__(self):
        self.rows = 0

    def step(self, rows):
        self.rows += rows

    def is_out_of_memory(self, error):
        return isinstance(error, MemoryError)


@pytest.fixture(scope="module")
def tiny():
    network = PixelDenoiser(
        PixelDenoiserConfig(channels=8, blocks=1, refine_channels=8, feature_channels=4, time_channels=8)
    )
    generator = torch.Generator().manual_seed(3)
    network.reset_parameters(generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture(scope="module")
def schedule():
    return residual_shift_schedule(5, 0.04, 0.5)


def run(network, lq, schedule, chain=Chain.ONE_STEP, tiling=None, seed=7, autoencoder=None):
    with torch.inference_mode():
        return upscale(
            lq,
            denoiser=network if isinstance(network, Network) else Network(network),
            autoencoder=autoencoder or PixelAutoencoder(),
            schedule=schedule,
            chain=chain,
            seed=seed,
            tiling=tiling or Tiling(64, 8),
            runtime=Recorder(),
        )


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(shape[-1])) * 2 - 1


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (Chain.ONE_STEP, "out.one_step_image"),
        (Chain.DETERMINISTIC, "out.ddim_image"),
        (Chain.STOCHASTIC, "out.ancestral_image"),
    ],
)
def test_one_tile_equals_the_reference_pipeline(chain, expected, monkeypatch):
    golden = load_file(GOLDEN / "pipeline.safetensors")
    noises = [golden["in.noise"], *golden["in.step_noise"]]
    monkeypatch.setattr(one_step_sr, "gaussian_field", lambda shape, *, seed, step, device: noises[step][0].to(device))
    schedule = residual_shift_schedule(clip_start=True)
    result, _ = run(reference_unet(), golden["in.lq"], schedule, chain, Tiling(16, 0), autoencoder=reference_vq())
    torch.testing.assert_close(result, golden[expected], atol=1e-3, rtol=0)


def reference_unet():
    weights, config = golden_weights("swin_unet_a")
    network = ResidualUNet(ResidualUNetConfig.from_state_dict(weights, image_size=config["params"]["image_size"]))
    network.load_state_dict(weights)
    return network


def reference_vq():
    weights, _ = golden_weights("vq_autoencoder")
    network = registry.build(registry.identify(weights))
    network.load_state_dict(weights)
    return network.eval()


def golden_weights(name):
    from adaptivesr.models.state_dict import drop_derived_buffers

    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        weights = {key[2:]: file.get_tensor(key) for key in file.keys() if key.startswith("w.")}  # noqa: SIM118
    return drop_derived_buffers(weights), config


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 30), (37, 21), (70, 130)])
@pytest.mark.parametrize("chain", [Chain.ONE_STEP, Chain.STOCHASTIC])
def test_every_size_comes_out_four_times_as_large(tiny, schedule, size, chain):
    result, _ = run(tiny, image(1, 3, *size), schedule, chain, Tiling(32, 4))
    assert result.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(result).all()


@pytest.mark.slow
@pytest.mark.parametrize("chain", list(Chain))
def test_the_result_does_not_depend_on_the_batching(tiny, schedule, chain):
    lq = image(3, 3, 40, 70)
    alone, _ = run(tiny, lq, schedule, chain, Tiling(32, 8, 1, 1))
    together, _ = run(tiny, lq, schedule, chain, Tiling(32, 8, 7, 3))
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("chain", list(Chain))
def test_a_batch_equals_single_images(tiny, schedule, chain):
    lq = image(3, 3, 20, 24)
    batch, _ = run(tiny, lq, schedule, chain, Tiling(64, 8, 4))
    singles = [run(tiny, lq[i : i + 1], schedule, chain)[0] for i in range(3)]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-4, rtol=0)


def test_tiles_that_overlap_by_the_receptive_field_leave_no_seam(tiny, schedule):
    lq = image(1, 3, 96, 96)
    whole, _ = run(tiny, lq, schedule, tiling=Tiling(96, 0))
    reach = tiny.receptive_field
    tiled, work = run(tiny, lq, schedule, tiling=Tiling(48, 4 * reach))
    assert work.regions > 1
    # the window gives a tile's rim, where its surroundings are missing, a weight of almost nothing
    torch.testing.assert_close(tiled, whole, atol=2e-2, rtol=0)


def test_another_seed_is_another_picture_and_the_same_seed_the_same(tiny, schedule):
    lq = image(1, 3, 16, 16)
    first, again, other = (run(tiny, lq, schedule, Chain.STOCHASTIC, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_work_is_counted_exactly(tiny, schedule):
    network = Network(tiny)
    lq = image(2, 3, 64, 96)
    _, work = run(network, lq, schedule, Chain.DETERMINISTIC, Tiling(32, 0, 4))
    assert work.regions == 6
    assert work.network_rows == 2 * 6 * 5 == sum(network.calls)
    assert work.network_calls == len(network.calls)
    assert work.latent_cells == work.network_rows * 32 * 32
    assert work.encoded_px == 2 * 6 * 128 * 128
    assert work.decoded_px <= 1.3 * 2 * 256 * 384


def test_progress_covers_the_plan_exactly(tiny, schedule):
    recorder, lq = Recorder(), image(1, 3, 50, 50)
    parts = {"denoiser": Network(tiny), "autoencoder": PixelAutoencoder()}
    plan = one_step_sr.Plan.of(lq, *parts.values(), Tiling(32, 4), 5)
    with torch.inference_mode():
        upscale(lq, **parts, schedule=schedule, chain=Chain.STOCHASTIC, seed=0, tiling=Tiling(32, 4), runtime=recorder)
    assert recorder.rows == plan.total_rows


def test_out_of_memory_halves_the_tile_batch_and_is_reported(tiny, schedule):
    lq = image(1, 3, 64, 128)
    expected, _ = run(tiny, lq, schedule, tiling=Tiling(32, 0, 1))
    result, work = run(Network(tiny, most_rows=2), lq, schedule, tiling=Tiling(32, 0, 8))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    assert (work.halvings, work.denoise_rows) == (2, 2)


def test_decoding_that_does_not_fit_goes_on_in_smaller_parts(tiny, schedule):
    class Small(PixelAutoencoder):
        def decode(self, z):
            if z.shape[-1] > 40:
                raise MemoryError
            return super().decode(z)

    lq = image(1, 3, 64, 64)
    expected, _ = run(tiny, lq, schedule)
    result, work = run(tiny, lq, schedule, autoencoder=Small())
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert work.halvings == 1


class Overflowing(Network):
    """Overflows for one tile, in half precision only or always."""

    def __init__(self, network, always):
        super().__init__(network)
        self.always = always

    def __call__(self, x, timesteps, lq, *, full_precision=False):
        x0 = super().__call__(x, timesteps, lq)
        bright = lq.flatten(1).mean(1) > 0.5
        if self.always or not full_precision:
            x0[bright] = float("nan")
        return x0


def bright_corner():
    lq = torch.zeros(1, 3, 64, 64)
    lq[..., 32:, 32:] = 1
    return lq


def test_a_tile_that_overflows_is_repeated_in_float32(tiny, schedule):
    expected, _ = run(tiny, bright_corner(), schedule, tiling=Tiling(32, 0))
    result, work = run(Overflowing(tiny, always=False), bright_corner(), schedule, tiling=Tiling(32, 0, 4))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert work.float32_retries == 1


def test_a_tile_that_stays_non_finite_is_named(tiny, schedule):
    with pytest.raises(ValueError, match="image 1, x 32 to 64, y 32 to 64"):
        run(Overflowing(tiny, always=True), bright_corner(), schedule, tiling=Tiling(32, 0))


@pytest.mark.parametrize("side", ["encode", "decode"])
def test_an_autoencoder_that_overflows_is_named_and_not_the_network(tiny, schedule, side):
    class Half(PixelAutoencoder):
        """Has no range for one of its ways, as a VAE in half precision."""

    setattr(Half, side, lambda self, x: getattr(PixelAutoencoder, side)(self, x) * float("nan"))
    with pytest.raises(ValueError, match=r"The autoencoder gave .* image 1, x 0 to .*--fp32-vae") as error:
        run(tiny, image(1, 3, 64, 64), schedule, autoencoder=Half())
    assert "in float32 too" not in str(error.value)


def test_a_tile_size_that_the_network_cannot_take_is_refused():
    with pytest.raises(ValueError, match="multiple of 16 LR pixels, got 24"):
        run(
            reference_unet(),
            image(1, 3, 16, 16),
            residual_shift_schedule(),
            tiling=Tiling(24, 0),
            autoencoder=reference_vq(),
        )


def test_a_tile_is_enlarged_as_the_whole_image_would_be():
    from adaptivesr.imaging.resize import bicubic_upsample
    from adaptivesr.imaging.tiles import grid

    lq = image(1, 3, 20, 30)
    whole = bicubic_upsample(lq, 4)
    for region in grid(20, 30, 8, 2):
        torch.testing.assert_close(enlarged_tile(lq, region, 4), whole[(..., *region.scaled(4).slices)])
