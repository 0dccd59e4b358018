from pathlib import Path

import pytest
import torch
from adaptivesr.models.state_dict import load_weights
from adaptivesr.tools.golden import tad_sr
from adaptivesr.tools.golden.vectors import Golden
from adaptivesr.training.tad_sr.discriminator import DiscriminatorConfig, TimeAwareDiscriminator

GOLDEN = Path(__file__).parents[1] / "golden" / "tad_sr" / "discriminator.safetensors"
PUBLISHED = DiscriminatorConfig.for_channels((160, 320, 320, 640, 640), embed_dim=160)
TINY = DiscriminatorConfig.for_channels((32, 64), embed_dim=16, c_dim=4)


def features(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 32, 8, 8, generator=generator), torch.randn(2, 64, 4, 6, generator=generator)]


def randomised(config=TINY, seed=0):
    """A network whose zero-initialised layers are not zero."""
    network = TimeAwareDiscriminator(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


def buffers(network):
    return {name: value.clone() for name, value in network.named_buffers()}


def test_logits_and_power_iterations_match_the_golden_vectors():
    results = Golden.run(GOLDEN, tad_sr.CHECKS["discriminator"])
    assert len(results) > 10
    assert [result.line() for result in results if not result.ok] == []


def test_published_size_has_the_published_parameters_and_entries():
    network = TimeAwareDiscriminator(PUBLISHED, device="meta")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(20.764e6, rel=1e-4)
    assert len(network.state_dict()) == 110
    assert "heads.4.main.1.fn.0.weight_orig" in network.state_dict()


@pytest.mark.parametrize(
    "config", [PUBLISHED, TINY, DiscriminatorConfig((64, 96), (1, 3), embed_dim=33, c_dim=5, kernel_size=5)]
)
def test_config_is_read_back_from_the_weights(config):
    sd = TimeAwareDiscriminator(config, device="meta").state_dict()
    assert DiscriminatorConfig.from_state_dict(sd) == config


def test_weights_survive_a_round_trip():
    first = randomised().eval()
    second = TimeAwareDiscriminator(DiscriminatorConfig.from_state_dict(first.state_dict()))
    load_weights(second, first.state_dict())
    t = torch.tensor([0, 5])
    assert torch.equal(second.eval()(features(), t), first(features(), t))


def test_fresh_discriminator_is_blind():
    network = TimeAwareDiscriminator(TINY).eval()
    assert torch.equal(network(features(0), torch.tensor([0, 5])), network(features(1), torch.tensor([9, 2])))


def test_logits_of_all_heads_stand_side_by_side():
    network = randomised().eval()
    logits = network(features(), torch.tensor([0, 5]))
    assert logits.shape == (2, 4 * (64 + 24))
    assert torch.equal(logits, torch.cat(network.head_logits(features(), torch.tensor([0, 5])), dim=1))


def test_time_changes_the_judgement():
    network = randomised().eval()
    assert not torch.allclose(network(features(), torch.tensor([0, 0])), network(features(), torch.tensor([9, 9])))


def test_evaluation_leaves_the_spectral_vectors_and_training_updates_them():
    network, t = randomised(), torch.tensor([0, 5])
    before = buffers(network)
    network.eval()(features(), t)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    network.train()(features(), t)
    assert all(not torch.equal(value, before[name]) for name, value in network.named_buffers())


@pytest.mark.slow
def test_power_iterations_bring_the_spectral_norm_to_one():
    network, t = randomised(), torch.tensor([0, 5])
    with torch.no_grad():
        for _ in range(200):
            network.train()(features(), t)
    conv = network.heads["1"].main[1].fn[0]
    assert torch.linalg.matrix_norm(conv.weight.flatten(1), ord=2).item() == pytest.approx(1.0, abs=0.02)


def test_two_forwards_before_one_backward_are_allowed():
    """Real and fake pass one after the other, and the power iteration of the second must not spoil the first's graph."""
    network = randomised().train()
    real = network(features(0), torch.tensor([0, 5]))
    fake = network(features(1), torch.tensor([0, 5]))
    (fake.mean() - real.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="2 feature maps"):
        randomised()(features()[:1], torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="Not a time-aware discriminator"):
        DiscriminatorConfig.from_state_dict({"conv.weight": torch.zeros(1)})
