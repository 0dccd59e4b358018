"""pyiqa's metrics by name, and what happens without a network."""

import sys

import pyiqa
import pytest
import torch
from adaptivesr.imaging.metrics.named import named_metrics

CPU = torch.device("cpu")


def test_metrics_are_functions_of_pictures():
    made = named_metrics(["psnr"], CPU)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = -10 * torch.log10((x - x * 0.5).square().flatten(1).mean(1))
    torch.testing.assert_close(made.found["psnr"](x, x * 0.5).flatten(), expected, atol=1e-3, rtol=1e-4)
    assert made.left_out == ()


@pytest.mark.parametrize("error", [ConnectionError("no network"), ModuleNotFoundError("no package")])
def test_what_cannot_be_fetched_is_left_out(monkeypatch, error):
    def create(name, **options):
        raise error

    monkeypatch.setattr(pyiqa, "create_metric", create)
    made = named_metrics(["lpips", "musiq"], CPU)
    assert made.found == {} and made.left_out == ("lpips", "musiq")


def test_without_names_pyiqa_is_not_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # importing it would now be an error
    assert named_metrics([], CPU).found == {}
