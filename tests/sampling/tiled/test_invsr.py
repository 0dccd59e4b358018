"""InvSR on images of any size, with a small random predictor, an exact autoencoder and Euler on a small random denoiser."""

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.imaging.resize import bicubic_upsample
from adaptivesr.models.noise_predictor import NoisePredictor, NoisePredictorConfig
from adaptivesr.sampling.noise import gaussian_field
from adaptivesr.sampling.tiled.invsr import InvSRNetworks, Start, chop_line, upscale_canvas, upscale_chopped
from adaptivesr.sampling.tiled.start_noise import Patches, predict_start_noise
from adaptivesr.tools.bench.parts.region_networks import TileNetwork

CONFIG = NoisePredictorConfig((8, 16), (1, 1), 128, 16, out_channels=8, mid_attention=True, head_dim=8, groups=4)
INDEX, SIGMA = 199, 0.5692854
ORDERS = [upscale_canvas, upscale_chopped]


class Runtime:
    def __init__(self):
        self.rows = 0

    def step(self, rows):
        self.rows += rows

    def is_out_of_memory(self, error):
        return "out of memory" in str(error)


class Predictor:
    factor = 2

    def __init__(self, limit=99, overflows=False):
        self.network = NoisePredictor(CONFIG).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.normal_(0, 0.15, generator=generator)
        self.limit, self.overflows, self.sizes = limit, overflows, []

    @torch.no_grad()
    def __call__(self, lr, index, *, full_precision=False):
        if len(lr) > self.limit:
            raise RuntimeError("out of memory")
        self.sizes.append(tuple(lr.shape))
        found = self.network.distribution(self.network(lr, torch.full((len(lr),), float(index))))
        bad = self.overflows == "always" or (self.overflows and not full_precision)
        return (found.mean / 0 if bad else found.mean), found.std


class Cheap(Predictor):
    """Means, so that large images cost nothing."""

    def __call__(self, lr, index, *, full_precision=False):
        mean = F.avg_pool2d(lr, 2).mean(1, keepdim=True).expand(-1, 4, -1, -1)
        return mean.clone(), torch.ones_like(mean)


class Autoencoder:
    """Means of 8 x 8 pixels, and their repetition; the fourth channel is the mean of the colours."""

    downscale, latent_channels = 8, 4

    def encode(self, image):
        mean = F.avg_pool2d(image, 8)
        return torch.cat([mean, mean.mean(1, keepdim=True)], dim=1)

    def decode(self, latent):
        return F.interpolate(latent[:, :3], scale_factor=8, mode="nearest")


class Euler:
    """One step from SIGMA to 0 with a network that sees everything it is given at once."""

    def __init__(self):
        self.network = TileNetwork()

    def __call__(self, latent, noise):
        return self.network(latent + SIGMA * noise, torch.full((len(latent),), SIGMA))


class Nothing:
    def __call__(self, latent, noise):
        return latent + noise


def networks(sample=None, **predictor):
    return InvSRNetworks(Predictor(**predictor), Autoencoder(), sample or Euler(), Runtime())


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("order", ORDERS)
def test_one_patch_is_section_3_3_of_the_paper(order):
    lr, parts = picture(1, 3, 32, 32), networks()
    result, _ = order(lr, parts, Start(INDEX, seed=3), Patches(32, 8))
    mean, std = parts.predictor(lr, INDEX)
    noise = mean + std * gaussian_field((4, 16, 16), seed=3)
    latent = parts.autoencoder.encode(bicubic_upsample(lr, 4) * 2 - 1)
    expected = parts.autoencoder.decode(parts.sample(latent, noise)) / 2 + 0.5
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (3, 4), (16, 17), (31, 70), (33, 32)])
def test_any_size_comes_out_four_times_as_large(order, size):
    parts = networks()
    result, work = order(picture(2, 3, *size), parts, Start(INDEX, seed=0), Patches(32, 8))
    assert result.shape == (2, 3, 4 * size[0], 4 * size[1]) and torch.isfinite(result).all()
    assert {shape[2:] for shape in parts.predictor.sizes} == {(32, 32)}  # the trained size, whatever the image's
    assert work.predictor.rows == 2 * work.regions


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(5, 9), (32, 32), (41, 66)])
def test_padding_is_cropped_exactly(order, size):
    """Without noise and with an identity sampler each pixel is near its own cell's mean, so a shifted crop would show."""
    ramp = torch.linspace(0, 1, size[1]).expand(1, 3, *size) * 0.5 + torch.linspace(0, 0.5, size[0])[:, None]
    result, _ = order(ramp, networks(Nothing()), Start(INDEX, 0, strength=0.0), Patches(32, 8))
    expected = bicubic_upsample(ramp, 4)
    steepest = max(0.5 / max(1, side - 1) for side in size)
    assert float((result - expected).abs().mean()) < 1.2 * steepest


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_results_depend_neither_on_the_patches_in_a_call_nor_on_the_batch(order):
    lr, start = picture(2, 3, 40, 70), Start(INDEX, seed=5)
    one, first = order(lr, networks(), start, Patches(32, 8, rows=1))
    many, second = order(lr, networks(), start, Patches(32, 8, rows=5))
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)
    assert first.predictor.calls > second.predictor.calls and first.predictor.rows == second.predictor.rows
    singles = [order(image[None], networks(), start, Patches(32, 8))[0] for image in lr]
    torch.testing.assert_close(torch.cat(singles), one, atol=1e-5, rtol=1e-5)
    other, _ = order(lr, networks(), Start(INDEX, seed=6), Patches(32, 8))
    assert float((other - one).abs().max()) > 0.05


@pytest.mark.parametrize("order", ORDERS)
def test_out_of_memory_halves_the_call_and_changes_nothing(order):
    lr, start = picture(1, 3, 70, 70), Start(INDEX, seed=5)
    expected, _ = order(lr, networks(), start, Patches(32, 8, rows=1))
    result, work = order(lr, networks(limit=2), start, Patches(32, 8, rows=8))
    assert work.halvings + work.predictor.halvings == 2
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_overflow_is_computed_again_in_float32_and_then_refused(order):
    lr, start = picture(1, 3, 32, 50), Start(INDEX, seed=5)
    expected, _ = order(lr, networks(), start, Patches(32, 8))
    result, work = order(lr, networks(overflows=True), start, Patches(32, 8))
    assert work.predictor.float32_retries == work.predictor.rows > 1
    assert torch.equal(result, expected)
    with pytest.raises(ValueError, match="noise predictor gave values that are not finite"):
        order(lr, networks(overflows="always"), start, Patches(32, 8))


@pytest.mark.parametrize("order", ORDERS)
def test_pixels_that_are_not_finite_are_refused(order):
    parts = networks(lambda latent, noise: latent / 0)
    with pytest.raises(ValueError, match="VAE gave pixels"):
        order(picture(1, 3, 32, 32), parts, Start(INDEX, 0), Patches(32, 8))


def test_blended_noise_keeps_its_variance_where_patches_meet():
    """Averages of samples would have a deviation below 1 in the overlaps; blended means and deviations have not."""

    class Standard:
        factor = 2

        def __call__(self, lr, index, *, full_precision=False):
            shape = (len(lr), 4, lr.shape[2] // 2, lr.shape[3] // 2)
            return torch.zeros(shape), torch.ones(shape)

    noise, work = predict_start_noise(
        picture(1, 3, 128, 128), (64, 64), predictor=Standard(), index=INDEX, patches=Patches(32, 16), runtime=Runtime()
    )
    assert work.regions == 49
    torch.testing.assert_close(noise.draw(9)[0], gaussian_field((4, 64, 64), seed=9), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cells", [(4, 19), (5, 20), (4, 20)])
def test_half_cells_may_be_there_or_not(cells):
    noise, _ = predict_start_noise(
        picture(1, 3, 9, 39), cells, predictor=Predictor(), index=INDEX, patches=Patches(32, 8), runtime=Runtime()
    )
    assert noise.mean.shape == noise.std.shape == (1, 4, *cells)


def test_the_noise_of_a_small_image_is_that_of_the_image_in_its_reflection():
    lr = picture(1, 3, 10, 32)
    arguments = {"predictor": Predictor(), "index": INDEX, "patches": Patches(32, 8), "runtime": Runtime()}
    small, _ = predict_start_noise(lr, (5, 16), **arguments)
    padded = F.pad(F.pad(lr, (0, 0, 9, 9), mode="reflect"), (0, 0, 1, 3), mode="reflect")  # 11 - 1 rows of it before
    whole, _ = predict_start_noise(padded, (16, 16), **arguments)
    torch.testing.assert_close(small.mean, whole.mean[:, :, 5:10], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_512_to_2048_pixels_is_less_work_than_half_overlapping_patches():
    parts, lr = networks(Nothing()), torch.full((1, 3, 512, 512), 0.5)
    parts.predictor.__class__ = Cheap
    _, work = upscale_canvas(lr, parts, Start(INDEX, 0), Patches())
    assert work.regions == 25  # 25 x 64 x 64 cells = 0.102 Mpx; half overlap has 49, 0.201 Mpx
    assert work.decoded_px <= 1.3 * 2048**2 and work.encoded_px <= 1.3 * 2048**2
    assert parts.runtime.rows == 25 + 2 * 4
    _, chopped = upscale_chopped(lr, parts, Start(INDEX, 0), Patches())
    assert chopped.regions == 49 and chopped.decoded_px == 49 * 512**2  # 3.06 times


@pytest.mark.parametrize(
    ("size", "overlap", "words"), [(100, 0, "multiple of 16"), (0, 0, "multiple of 16"), (128, 65, "0 to 64"), (128, -1, "0 to 64")]
)  # fmt: skip
def test_patches_that_cannot_be_cut_are_a_sentence(size, overlap, words):
    with pytest.raises(ValueError, match=words):
        Patches(size, overlap)


def test_decoding_in_parts_shows_no_seams_and_halves_when_memory_runs_out():
    lr = F.interpolate(torch.rand(1, 3, 5, 5), size=(300, 280), mode="bicubic").clamp(0, 1)
    parts = networks(Nothing())
    parts.predictor.__class__ = Cheap
    whole, work = upscale_canvas(lr, parts, Start(INDEX, 0, 0.0), Patches(288, 0))
    decode = parts.autoencoder.decode

    def limited(latent):
        if latent.shape[-1] * latent.shape[-2] > 80 * 80:
            raise RuntimeError("out of memory")
        return decode(latent)

    parts.autoencoder.decode = limited
    halved, found = upscale_canvas(lr, parts, Start(INDEX, 0, 0.0), Patches(288, 0))
    assert (work.halvings, found.halvings) == (0, 1)
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=1e-5)


def test_pixel_weights_are_half_a_sample_off_centre_for_even_sides():
    even, odd = chop_line(64), chop_line(65)
    assert even.argmax() == 31 and odd.argmax() == 32
    assert abs(odd.sum() - 1) < 1e-12 and even.sum() < 1
    assert even.min() / even.max() > 0.003  # every pixel of a patch counts
