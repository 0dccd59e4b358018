"""Lists of metrics, and what their scores mean."""

import math

import pytest
import torch
from adaptivesr.imaging.metrics import quality
from adaptivesr.imaging.metrics.named import named_metrics
from adaptivesr.imaging.metrics.quality import Score, limits, names_in, needs_reference, options_for, score


def pictures(size=192):
    coarse = torch.rand(1, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    truth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    noise = 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    return (truth + noise).clamp(0, 1), truth


def test_names_come_once_in_lower_case():
    assert names_in(" PSNR, ssim,, psnr ") == ("psnr", "ssim")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" , ", "Got no metric"),
        ("psnr, musik", "metric 'musik', which pyiqa does not know.*did you mean.*musiq"),
        ("qqqqq", "'qqqqq', which pyiqa does not know.*without weights there are psnr, ssim"),
        ("fid", "metric 'fid', which needs whole sets"),
    ],
)
def test_wrong_lists_are_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        names_in(text)


@pytest.mark.slow
def test_every_offline_metric_gives_a_number_without_a_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    bad, truth = pictures()
    made = named_metrics(quality.OFFLINE, torch.device("cpu"))
    assert made.left_out == ()
    compared = needs_reference(quality.OFFLINE)
    assert set(quality.OFFLINE) - set(compared) == {"piqe"}
    for name, metric in made.found.items():
        worse, same = (
            score(metric, name, [(image, truth) if name in compared else (image,)]).mean for image in (bad, truth)
        )
        assert worse is not None and same is not None
        if name in compared:
            assert (worse > same) == (name in ("nlpd", "gmsd")), name


def test_luma_and_all_channels_are_what_they_say():
    bad, truth = pictures(64)
    weights = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1) * 219 / 255  # BT.601's levels 16 to 235
    for luma, error in ((True, ((bad - truth) * weights).sum(1)), (False, bad - truth)):
        made = named_metrics(["psnr"], torch.device("cpu"), options_for(["psnr"], luma=luma))
        found = score(made.found["psnr"], "psnr", [(bad, truth)])
        assert found.mean == pytest.approx(-10 * math.log10(error.square().mean().item()), abs=0.01)
        assert (found.low, found.high, found.lower_is_better) == (0.0, 40.0, False)


def test_only_metrics_that_leave_the_choice_open_get_the_option():
    assert options_for(["psnr", "piqe", "gmsd"], luma=False) == {
        "psnr": {"test_y_channel": False, "color_space": "ycbcr"}
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0, 1", (0, 1)), ("~0, ~40", (0, 40)), ("0, ~", (0, None)), ("~, 2", (None, 2)), ("-2, 2", (-2, 2)), (None, (None, None))],
)  # fmt: skip
def test_ranges_of_pyiqa(text, expected):
    assert limits(text) == expected


def test_values_that_are_not_finite_are_none_and_do_not_count():
    found = score(lambda x: x.log().sum(), "log", [(torch.ones(1),), (torch.zeros(1),), (torch.full((1,), math.e),)])
    assert found.values == (0.0, None, pytest.approx(1.0))
    assert found.mean == pytest.approx(0.5) and found.best == 2
    assert Score("x", False, None, None, (None, None)).mean is None


def test_the_best_image_follows_the_metrics_direction():
    values = (3.0, 1.0, 2.0)
    assert Score("up", False, 0, 4, values).best == 0
    assert Score("down", True, 0, 4, values).best == 1
    assert Score("alike", False, 0, 4, (2.0, 2.0)).best is None
    assert Score("single", False, 0, 4, (2.0,)).best is None
