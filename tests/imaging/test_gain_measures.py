import pytest
import torch
from adaptivesr.imaging.detail import sharpness
from adaptivesr.imaging.metrics.gain_measures import latent_measures, linear_rgb, luma, picture_measures, rgb_measures
from adaptivesr.imaging.metrics.pyramid_distance import pyramid_distance

SD = [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]]


def pictures(n=3, channels=3, size=(40, 48), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(n, channels, *size, generator=generator) for _ in range(2)]


def waves(size, phase):
    y, x = torch.meshgrid(torch.arange(size[0]) / 10, torch.arange(size[1]) / 7, indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x + phase) * torch.cos(y * (1 + c)) for c in range(3)])[None]


# (size, nlpd, psnr) of pyiqa 0.1.16, which the inner loop does not import: that takes seconds
@pytest.mark.parametrize(
    ("size", "nlpd", "psnr"),
    [
        ((40, 48), 0.683749258518219, 16.947830200195312),
        ((33, 47), 0.6908482909202576, 16.909069061279297),
        ((6, 9), 0.7089317440986633, 16.679494857788086),
    ],
)
def test_picture_measures_are_pyiqas(size, nlpd, psnr):
    measures, pair = rgb_measures(), (waves(size, 0.0), waves(size, 0.7))
    assert float(measures["nlpd"](*pair)) == pytest.approx(nlpd, rel=1e-5)
    assert float(measures["psnr"](*pair)) == pytest.approx(psnr, rel=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (3, 5), (1, 1)])
def test_the_pyramid_distance_is_pyiqas(size):
    from pyiqa.archs.nlpd_arch import NLPD

    x, reference = pictures(channels=1, size=size)
    network = NLPD(channels=1, test_y_channel=True)
    levels = zip(network.pyramid(x), network.pyramid(reference))
    expected = torch.stack([(a - b).square().mean((1, 2, 3)).sqrt() for a, b in levels], dim=1).mean(1)
    assert torch.allclose(pyramid_distance(x, reference), expected, rtol=1e-5)


def test_latents_are_measured_over_all_channels():
    x, reference = (8 * picture - 4 for picture in pictures(channels=4))
    measures = latent_measures()
    mean_square = (x - reference).square().mean((1, 2, 3))
    assert torch.allclose(measures["psnr"](x, reference), 10 * torch.log10(64 / mean_square), rtol=1e-5)
    # one channel repeated is that channel, on the scale of a picture
    grey, other = (picture[:, :1] for picture in pictures())
    repeated = [(8 * p - 4).expand(-1, 4, -1, -1) for p in (grey, other)]
    rgb = [p.expand(-1, 3, -1, -1) for p in (grey, other)]
    assert torch.allclose(measures["nlpd"](*repeated), rgb_measures()["nlpd"](*rgb), rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (6, 6), (33, 47)])
def test_any_size_is_measured_row_by_row(size):
    x, reference = pictures(channels=4, size=size)
    for measure in latent_measures().values():
        together = measure(x, reference)
        assert together.shape == (3,) and bool(torch.isfinite(together).all())
        alone = torch.cat([measure(x[i : i + 1], reference[i : i + 1]) for i in range(3)])
        assert torch.allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_equal_pictures_have_no_distance():
    x, _ = pictures()
    assert bool(torch.isinf(rgb_measures()["psnr"](x, x)).all())
    assert bool((rgb_measures()["nlpd"](x, x) == 0).all())


def test_sharpness_is_the_mean_absolute_laplacian():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    assert float(sharpness(x)) == pytest.approx((4 + 4) / 25)
    assert float(sharpness(torch.full((1, 2, 4, 4), 3.0))) == 0.0
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    assert float(sharpness(ramp)) == pytest.approx(
        2 * 6 / 36
    )  # the two border columns, whose outer neighbour is themselves


def test_linear_pictures_are_the_hosts():
    latent = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    bias = (0.1, 0.0, -0.2)
    expected = torch.nn.functional.linear(latent.movedim(1, -1), torch.tensor(SD).T, torch.tensor(bias)).movedim(-1, 1)
    found = linear_rgb(latent, SD, bias)
    assert torch.allclose(found, ((expected + 1) / 2).clamp(0, 1), atol=1e-6)
    assert found.shape == (2, 3, 5, 7)


def test_latents_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="latents of 16 channels and RGB factors for 4"):
        linear_rgb(torch.zeros(1, 16, 4, 4), SD)
    with pytest.raises(ValueError, match="half range of 0"):
        latent_measures(0.0)


def test_metrics_made_elsewhere_are_called_as_they_expect():
    seen = {}

    def paired(x, reference):
        seen["paired"] = x.shape, reference.shape
        return (x - reference).abs().mean((1, 2, 3)).reshape(-1, 1)

    def alone(x):
        seen["alone"] = x.shape
        return x.mean((1, 2, 3)).double()

    measures = picture_measures({"paired": paired, "alone": alone}, ["alone"], enlarge=4)
    x, reference = pictures(size=(8, 12))
    assert measures["paired"](x, reference).shape == (3,)
    assert measures["alone"](x, reference).dtype == torch.float32
    assert seen == {"paired": (torch.Size([3, 3, 32, 48]),) * 2, "alone": torch.Size([3, 3, 32, 48])}
    plain = picture_measures({"alone": alone}, ["alone"])["alone"](x, reference)
    assert torch.allclose(plain, x.mean((1, 2, 3)))


def test_luma_is_between_its_colours():
    assert float(luma(torch.ones(1, 3, 1, 1))) == pytest.approx(1.0)
