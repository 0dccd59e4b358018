"""Networks of InvSR's training: the published sizes by their key lists, detection, and what LPIPS on latents must be."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.judges.latent_discriminator import LatentDiscriminator, LatentDiscriminatorConfig
from adaptivesr.models.judges.latent_lpips import LatentLPIPS, own_tensors
from adaptivesr.models.state_dict import UnsupportedModelError, load_weights

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys"
SMALL = LatentDiscriminatorConfig(
    (8, 16), (1, 1), (0, 2), side_channels=4, text_channels=6, text_heads=3, time_channels=16, groups=4
)


def published(name):
    lines = [line.split() for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    return {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape, _ in lines}


def filled(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return network


def lpips():
    network = filled(LatentLPIPS())
    with torch.no_grad():
        for index in range(5):
            network.get_parameter(f"lin{index}.model.1.weight").abs_()
    return network


def latents(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_discriminator_has_the_published_keys_and_size():
    sd = published("invsr_discriminator")
    network = LatentDiscriminator(LatentDiscriminatorConfig(), device="meta")
    load_weights(network, sd)
    assert sum(parameter.numel() for parameter in network.parameters()) == 112_082_532


def test_the_published_metric_loads_strictly_without_what_it_holds_twice():
    sd = published("latent_lpips")
    load_weights(LatentLPIPS(device="meta"), own_tensors(sd))
    assert len(sd) - len(own_tensors(sd)) == 7


@pytest.mark.parametrize(("name", "kind"), [("invsr_discriminator", "latent_discriminator"), ("latent_lpips",) * 2])
def test_files_of_the_training_are_known_and_refused_where_a_network_is_wanted(name, kind):
    identified = registry.identify(published(name))
    assert identified.kind == kind
    with pytest.raises(UnsupportedModelError, match="only takes part in training"):
        registry.build(identified)


@torch.no_grad()
def test_four_heads_judge_an_image_without_seeing_the_others():
    network = filled(LatentDiscriminator(SMALL)).eval()
    z, t, text = latents(2, 4, 8, 6), torch.tensor([249, 99]), latents(2, 5, 6, seed=1)
    both = network(z, t, text)
    assert [tuple(logits.shape) for logits in both] == [(2, 1, 4, 3), (2, 1, 8, 6), (2, 1, 8, 6)]
    for row in range(2):
        one = network(z[row : row + 1], t[row : row + 1], text[row : row + 1])
        assert all(torch.allclose(a[row : row + 1], b, atol=1e-5) for a, b in zip(both, one))


@torch.no_grad()
@pytest.mark.parametrize("changed", ["time", "text"])
def test_the_discriminator_is_told_time_and_text(changed):
    network = filled(LatentDiscriminator(SMALL)).eval()
    z, t, text = latents(1, 4, 8, 8), torch.tensor([199]), latents(1, 5, 6, seed=1)
    other = network(z, t - 100, text) if changed == "time" else network(z, t, text.roll(1, 2))
    assert all(not torch.allclose(a, b) for a, b in zip(network(z, t, text), other))


@pytest.mark.slow
def test_the_metric_is_a_symmetric_distance_with_finite_gradients():
    network = lpips()
    a, b = latents(2, 4, 8, 8), latents(2, 4, 8, 8, seed=1)
    assert torch.equal(network(a, a), torch.zeros(2))
    assert torch.equal(network(a, b), network(b, a)) and bool((network(a, b) > 0).all())
    near = network(a, a + 0.1 * (b - a))
    assert bool((near < network(a, b)).all())


def test_features_that_are_all_zero_have_a_gradient_of_zero():
    network = lpips()
    with torch.no_grad():
        network.net.slice1["0"].bias.fill_(-1e3)  # nothing passes the first layer
    latent = latents(1, 4, 8, 8).requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(latent, latents(1, 4, 8, 8, seed=1)).sum(), latent)
    assert torch.equal(gradient, torch.zeros_like(gradient))
