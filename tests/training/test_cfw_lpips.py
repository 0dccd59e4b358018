"""The real LPIPS of pyiqa as CFW's loss, on stand-ins for the two files that it reads: VGG16's and its own five layers."""

import pytest
import torch
from adaptivesr.tools.small_models.lpips import OWN_FILE, SLICES, VGG_FILE, put_small_lpips
from adaptivesr.training.cfw.config import GRADIENTS, LPIPS
from adaptivesr.training.cfw.losses import MissingLPIPSError, make_perceptual
from torch.nn import functional as F

pytest.importorskip("pyiqa")
pytestmark = pytest.mark.slow  # pyiqa takes seconds to import

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # Zhang et al.'s code: ImageNet's statistics in [-1, 1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where torchvision and pyiqa keep their files, empty, without a network to fetch them."""
    from pyiqa.utils import download_util

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path / "pyiqa"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def files(folder):
    """Both stand-ins in their places, and their tensors."""
    return put_small_lpips(folder)


def distance(vgg, own, left, right):
    """Zhang et al. 2018, eq. 1, written down again: (B,) of pictures in [-1, 1]."""
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
    left, right, total = (left - shift) / scale, (right - shift) / scale, 0.0
    for index, layers in enumerate(SLICES):
        if index:
            left, right = F.max_pool2d(left, 2), F.max_pool2d(right, 2)
        for layer in layers:
            weight, bias = vgg[f"features.{layer}.weight"], vgg[f"features.{layer}.bias"]
            left, right = (F.conv2d(x, weight, bias, padding=1).relu() for x in (left, right))
        units = [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (left, right)]
        weighted = F.conv2d((units[0] - units[1]).square(), own[f"lin{index}.model.1.weight"])
        total = total + weighted.mean((1, 2, 3))
    return total


def pictures(seed):
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_the_papers_distance_by_the_files_and_only_the_picture_gets_gradients(files):
    metric = make_perceptual(LPIPS, torch.device("cpu"))
    picture, target = pictures(1).requires_grad_(), pictures(2)
    found = metric(picture, target)
    torch.testing.assert_close(found, distance(*files, picture, target), rtol=1e-4, atol=1e-6)
    assert (found > 0.05).all()
    assert torch.equal(metric(target, target), torch.zeros(2))
    (gradient,) = torch.autograd.grad(found.sum(), picture)
    (wanted,) = torch.autograd.grad(distance(*files, picture, target).sum(), picture)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("missing", [(VGG_FILE,), (OWN_FILE,), (VGG_FILE, OWN_FILE)])
def test_without_a_file_and_a_network_a_sentence_offers_the_loss_that_needs_none(folder, files, missing):
    for name in missing:
        next(folder.rglob(name)).unlink()
    with pytest.raises(MissingLPIPSError, match="for want of its weights") as caught:
        make_perceptual(LPIPS, torch.device("cpu"))
    assert GRADIENTS in str(caught.value)
    assert not [path for name in missing for path in folder.rglob(name)]


@pytest.mark.parametrize("name", [VGG_FILE, OWN_FILE])
def test_a_file_that_was_cut_is_a_sentence_too(folder, files, name):
    path = next(folder.rglob(name))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(MissingLPIPSError, match=r"remove a damaged one.*choose") as caught:
        make_perceptual(LPIPS, torch.device("cpu"))
    assert GRADIENTS in str(caught.value)
