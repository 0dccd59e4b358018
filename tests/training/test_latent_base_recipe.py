"""The recipe of the embedded base: its start, its loss, and the pictures that trainings beside it read."""

import numpy as np
import torch
from adaptivesr.models.latent_base import LATENT_SCALE
from adaptivesr.tools.embedded_weights.latent_base import initialise, latent_base_loss
from adaptivesr.tools.embedded_weights.pool import Pool, write_pictures
from adaptivesr.training.ema import Ema
from adaptivesr.training.runs import new_state
from PIL import Image
from torch import nn

ALPHAS = torch.linspace(0.999, 0.005, 1000)


class Ends(nn.Module):
    """One layer in the middle and one at the end of a branch, named as the UNet's."""

    def __init__(self):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 3))
        self.out_layers = nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Identity(), nn.Conv2d(4, 4, 3))


def test_the_start_follows_from_the_seed_and_branches_are_silent():
    first, again, other = Ends(), Ends(), Ends()
    for network, seed in ((first, 1), (again, 1), (other, 2)):
        initialise(network, seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not torch.equal(first.in_layers[2].weight, other.in_layers[2].weight)
    assert abs(float(first.in_layers[2].weight.detach().square().mean()) * 36 - 1) < 0.5, "normal by fan-in"
    assert not first.out_layers[3].weight.any() and bool((first.out_layers[0].weight == 1).all())


class Told(nn.Module):
    """Answers the noise itself: the loss's own arithmetic undone, for a picture that it knows."""

    def __init__(self, z_0):
        super().__init__()
        self.z_0 = z_0
        self.seen = []

    def forward(self, z_t, t, context):
        self.seen.append((t, context.shape))
        abar = ALPHAS[t].view(-1, 1, 1, 1)
        return (z_t - abar.sqrt() * self.z_0) / (1 - abar).sqrt()


def test_the_loss_is_that_of_v_for_scaled_rearranged_pixels():
    hr = torch.rand(3, 3, 16, 16) * 2 - 1
    told = Told(LATENT_SCALE * torch.nn.functional.pixel_unshuffle(hr, 4))
    loss = latent_base_loss(new_state("latent_base", told, (), Ema(nn.Module(), 0.0)), ALPHAS)
    value, numbers = loss(hr, hr, torch.Generator().manual_seed(0))
    assert float(value) < 1e-6 and numbers == {"loss": float(value)}
    assert told.seen[0][1] == (3, 1, 64) and len(set(told.seen[0][0].tolist())) == 3
    told.z_0 = told.z_0 + 1
    # An error of 1 in z_0 is one of sqrt(abar / (1 - abar)) in the noise, and of 1 / sqrt(1 - abar) in v.
    wrong = float(loss(hr, hr, torch.Generator().manual_seed(0))[0])
    assert abs(wrong - float((1 / (1 - ALPHAS[told.seen[1][0]])).mean())) < 1e-3 * wrong


def test_pictures_are_written_once(tmp_path):
    hr = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    pools = [Pool(hr, hr[:, None]), Pool(hr[:1], hr[:1, None])]
    write_pictures(tmp_path, pools)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000.png", "00001.png", "00002.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "00001.png")), hr[1])
    (tmp_path / "00001.png").write_bytes(b"stays")
    write_pictures(tmp_path, pools)
    assert (tmp_path / "00001.png").read_bytes() == b"stays"
