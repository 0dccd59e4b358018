"""Time-aware adapters: the published keys and sizes, the neutral start, gates that look at time and place."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.state_dict import UnsupportedModelError, canonicalize, load_weights
from adaptivesr.models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from safetensors.torch import load_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SD21 = [(1280, 1280)] * 5 + [(1280, 640)] * 2 + [(640, 640)] + [(640, 320)] * 2 + [(320, 320)] * 2
SMALL = [(64, 64), (64, 64), (64, 128)]
DESIGNS = ("full", "lite", "paper")


def small(design, **options):
    config = TimeAwareAdaptersConfig.for_channels(design, 64, SMALL, emb_channels=48, width=32, **options)
    network = TimeAwareAdapters(config)
    network.reset_parameters(torch.Generator().manual_seed(0))
    return network


def inputs(index, *, batch=2, size=(4, 6), dtype=torch.float32):
    generator = torch.Generator().manual_seed(index)
    make = lambda *shape: torch.randn(batch, *shape, generator=generator).to(dtype)  # noqa: E731
    hidden, skip = (64, 64) if index == 0 else SMALL[index - 1]
    return make(hidden, *size), None if index == 0 else make(skip, *size), make(skip, *size), make(48)


def shuffled(network):
    """Random last layers, which a fresh network has at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for index in range(4):
            for parameter in network.site(index).last.parameters():
                parameter.normal_(0, 0.3, generator=generator)
    return network


@pytest.mark.parametrize(("design", "millions"), [("full", 757.5), ("lite", 10.46)])
def test_parameter_counts_at_the_size_of_stable_diffusion_2(design, millions):
    network = TimeAwareAdapters(TimeAwareAdaptersConfig.for_channels(design, 1280, SD21), device="meta")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6, 2 if design == "lite" else 1) == millions
    assert len(network.state_dict()) == 13 * 12


def test_the_published_key_list_loads_strictly():
    lines = [line.split() for line in (GOLDEN / "keys" / "tasr_adapters.txt").read_text().splitlines()]
    sd = {key: torch.empty([int(n) for n in shape.split("x")], device="meta") for key, shape, _ in lines}
    identified = registry.identify(canonicalize(sd))
    assert identified.kind == "time_aware_adapters" and "full, 13 sites, alpha up to 2" in identified.label
    assert identified.config == TimeAwareAdaptersConfig.for_channels("full", 1280, SD21)
    network = registry.build(identified, device="meta")
    load_weights(network, sd)
    assert set(network.state_dict()) == set(sd)


@pytest.mark.parametrize("design", DESIGNS)
def test_a_state_dict_tells_its_own_configuration(design):
    network = small(design)
    identified = registry.identify(canonicalize(network.state_dict()))
    assert identified.config == network.config
    again = registry.build(identified, device="meta")
    load_weights(again, network.state_dict())
    assert ("alpha_max" in network.state_dict()) == (design == "paper")


@pytest.mark.parametrize("design", DESIGNS)
def test_the_start_is_the_middle_of_the_gate_everywhere(design):
    network = small(design)
    for index in range(4):
        alpha = network.forward_site(index, *inputs(index))
        assert alpha.shape == (2, 1, 4, 6)
        assert torch.equal(alpha, torch.full_like(alpha, 0.5 if design == "paper" else 1.0))
        assert torch.equal(network.forward_site(index, *inputs(index), alpha_max=1.0), torch.full_like(alpha, 0.5))


@pytest.mark.parametrize("design", DESIGNS)
def test_alpha_depends_on_time_place_and_sample_and_stays_inside_the_gate(design):
    network = shuffled(small(design))
    for index in range(4):
        h, skip, residual, emb = inputs(index)
        alpha = network.forward_site(index, h, skip, residual, emb)
        assert alpha.min() > 0 and alpha.max() < network.config.alpha_max
        assert alpha.flatten(2).std(dim=2).min() > 1e-4
        assert (network.forward_site(index, h, skip, residual, emb + 1) - alpha).abs().max() > 1e-4
        alone = network.forward_site(index, h[1:], skip[1:] if skip is not None else None, residual[1:], emb[1:])
        torch.testing.assert_close(alone, alpha[1:], atol=1e-5, rtol=0)


def test_the_full_design_sees_the_skip_and_the_paper_does_not():
    for design, sees in (("full", True), ("lite", True), ("paper", False)):
        network = shuffled(small(design))
        h, skip, residual, emb = inputs(1)
        change = network.forward_site(1, h, skip + 1 * torch.randn_like(skip), residual, emb)
        assert torch.equal(change, network.forward_site(1, h, skip, residual, emb)) != sees


@pytest.mark.parametrize("name", ["adapter_small"])
def test_the_published_design_equals_the_reference(name):
    tensors = load_file(GOLDEN / "tasr" / f"{name}.safetensors")
    weights = {f"0.0.{key[2:]}": value for key, value in tensors.items() if key.startswith("w.")}
    network = TimeAwareAdapters(TimeAwareAdaptersConfig.from_state_dict(weights))
    network.load_state_dict(weights)
    alpha = network.forward_site(0, *(tensors[f"in.{key}"] for key in ("h", "skip", "f_cond", "emb")))
    torch.testing.assert_close(alpha, tensors["out.alpha"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("design", DESIGNS)
def test_gradients_reach_every_parameter(design):
    network = shuffled(small(design))
    sum(network.forward_site(index, *inputs(index)).square().mean() for index in range(4)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_another_base_model_is_a_sentence():
    network = small("lite")
    h, skip, residual, emb = inputs(1)
    with pytest.raises(ValueError, match=r"site 1 takes 192 channels.*got 160 and 48.*another base"):
        network.forward_site(1, h[:, :32], skip, residual, emb)
    with pytest.raises(ValueError, match="time embedding of 48"):
        network.forward_site(1, h, skip, residual, emb[:, :40])
    with pytest.raises(ValueError, match="design 'huge'"):
        TimeAwareAdaptersConfig.for_channels("huge", 64, SMALL)


@pytest.mark.parametrize("change", [("0.0.emb.weight", None), ("0.0.proj.weight", (4, 4)), ("0.0.emb.weight", (4,))])
def test_damaged_files_are_unsupported_models(change):
    key, shape = change
    sd = small("lite").state_dict()
    sd = {k: v for k, v in sd.items() if k != key} if shape is None else {**sd, key: torch.zeros(shape)}
    with pytest.raises(UnsupportedModelError):
        registry.identify(sd)
