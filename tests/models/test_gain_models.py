import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.models import registry
from adaptivesr.models.feature_injection import Pfj, PfjConfig, inject
from adaptivesr.models.gain_models import METADATA_KEY, GainModels, GainModelsInfo, MetricInfo, base_identity
from adaptivesr.models.gain_regressor import Mmle, MmleConfig
from adaptivesr.models.state_dict import UnsupportedModelError, load_weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

META = json.loads((Path(__file__).parents[1] / "golden" / "adadiffsr" / "meta.json").read_text())["modules"]
SMALL_MMLE = MmleConfig(latent_channels=12, widths=(16,) * 7, time_channels=8, hidden=24, metrics=3)
SMALL_PFJ = PfjConfig(latent_channels=12, stem=16, inner=24, blocks=2, hidden=20, metrics=3)
INFO = GainModelsInfo(
    "0123456789abcdef",
    "StableSR on SD 2.1",
    (MetricInfo("psnr", 10.0, 35.0, False, True, 1.0, 0.01), MetricInfo("musiq", 20.0, 80.0, False, False, 1.0)),
)


class Casting:
    """Layers as torch's, whose norms cast their weights to the input as a host's do."""

    Conv2d, Linear = nn.Conv2d, nn.Linear

    class GroupNorm(nn.GroupNorm):
        def forward(self, x):
            return F.group_norm(x, self.num_groups, self.weight.to(x), self.bias.to(x), self.eps)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.mark.parametrize(("part", "network", "config"), [("mmle", Mmle, MmleConfig), ("pfj", Pfj, PfjConfig)])
def test_the_defaults_have_the_published_sizes(part, network, config):
    made = network(config(), device="meta")
    assert {key: list(value.shape) for key, value in made.state_dict().items()} == META[f"{part}_keys"]
    assert sum(parameter.numel() for parameter in made.parameters()) == META[f"{part}_params"]


@pytest.mark.parametrize(
    ("network", "config"), [(Mmle, SMALL_MMLE), (Pfj, SMALL_PFJ), (Mmle, MmleConfig()), (Pfj, PfjConfig())]
)
def test_sizes_are_read_from_the_weights(network, config):
    assert type(config).from_state_dict(network(config, device="meta").state_dict()) == config


@torch.no_grad()
def test_a_region_costs_little_beside_a_network_call():
    latent, t = torch.empty(1, 4, 64, 64, device="meta"), torch.empty(1, device="meta")
    work = []
    for network, arguments in (
        (Mmle(MmleConfig(), device="meta"), (latent, latent, latent, t, t)),
        (Pfj(PfjConfig(), device="meta"), (latent, torch.empty(1, 6, device="meta"))),
    ):
        with FlopCounterMode(display=False) as counter:
            network(*arguments)
        work.append(counter.get_total_flops() / 2e9)
    assert work == pytest.approx([0.231, 4.85], rel=0.01)  # GMAC


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (13, 17)])
@torch.no_grad()
def test_gains_lie_between_minus_one_and_one_and_rows_are_independent(size):
    network = filled(Mmle(SMALL_MMLE))
    latents = [noise(3, 12, *size, seed=i) * 3 for i in range(3)]
    t, before = torch.tensor([900.0, 300.0, 5.0]), torch.tensor([920.0, 305.0, 10.0])
    gains = network(*latents, t, before)
    assert gains.shape == (3, 3) and gains.dtype == torch.float32 and float(gains.abs().max()) < 1.0
    for i in range(3):
        one = slice(i, i + 1)
        assert torch.allclose(network(*(x[one] for x in latents), t[one], before[one]), gains[one], atol=1e-5)
    assert not torch.allclose(network(*latents, t, before + 15), gains)
    assert not torch.allclose(network(*latents, t - 5, before - 5), gains)


@torch.no_grad()
def test_half_precision_stays_close():
    network = filled(Mmle(SMALL_MMLE, operations=Casting))
    arguments = [noise(2, 12, 16, 16, seed=i) for i in range(3)]
    times = torch.tensor([900.0, 5.0]), torch.tensor([905.0, 20.0])
    full = network(*arguments, *times)
    half = network.bfloat16()(*(x.bfloat16() for x in arguments), *times)
    assert half.dtype == torch.float32 and float((half - full).abs().max()) < 0.05


@pytest.mark.parametrize("size", [(8, 8), (7, 13)])
@torch.no_grad()
def test_injection_starts_as_the_identity(size):
    network = Pfj(SMALL_PFJ)
    reference, gains = noise(2, 12, *size), noise(2, 3)
    alpha, beta = network(reference, gains)
    assert torch.equal(alpha, torch.ones_like(reference)) and torch.equal(beta, torch.zeros_like(reference))
    assert torch.equal(inject(reference, alpha, beta), reference)


@torch.no_grad()
def test_injection_follows_the_gains_row_by_row():
    network = filled(Pfj(SMALL_PFJ))
    reference, gains = noise(2, 12, 9, 12), noise(2, 3)
    alpha, beta = network(reference, gains)
    assert alpha.shape == beta.shape == reference.shape
    one = network(reference[1:], gains[1:])
    assert torch.allclose(one[0], alpha[1:], atol=1e-5) and torch.allclose(one[1], beta[1:], atol=1e-5)
    assert not torch.allclose(network(reference, gains + 0.5)[0], alpha)


def test_injection_is_held_within_limits_and_scaled_by_its_strength():
    reference = noise(1, 4, 3, 3)
    ones = torch.ones_like(reference)
    assert torch.equal(inject(reference, 9 * ones, -9 * ones, 0.0), reference)
    assert torch.allclose(inject(reference, 9 * ones, -9 * ones), 1.5 * reference - 0.5)
    assert torch.allclose(inject(reference, 0 * ones, 9 * ones), 0.5 * reference + 0.5)
    assert torch.allclose(inject(reference, 1.2 * ones, 0.1 * ones, 0.5), 1.1 * reference + 0.05)


def parts(mmle=SMALL_MMLE, pfj=SMALL_PFJ):
    sd = {}
    if mmle is not None:
        sd |= {f"mmle.{key}": value for key, value in filled(Mmle(mmle)).state_dict().items()}
    if pfj is not None:
        sd |= {f"pfj.{key}": value for key, value in filled(Pfj(pfj), 1).state_dict().items()}
    return sd


@pytest.mark.parametrize(
    ("sd", "label"),
    [
        (parts(), "MMLE for latents of 12 channels, PFJ for an LR condition of 12 channels; 3 metrics"),
        (parts(pfj=None), "MMLE for latents of 12 channels; 3 metrics"),
        (parts(mmle=None), "PFJ for an LR condition of 12 channels; 3 metrics"),
        (
            parts(pfj=PfjConfig(3, 16, 24, 2, 20, 3)),
            "MMLE for latents of 12 channels, PFJ for an LR condition of 3 channels; 3 metrics",
        ),
    ],
    ids=["both", "mmle", "pfj", "other condition"],
)
def test_files_are_known_by_their_keys_and_built(sd, label):
    identified = registry.identify(registry.canonicalize(sd))
    assert (identified.kind, identified.label) == ("gain_models", label)
    network = registry.build(identified)
    assert isinstance(network, GainModels)
    load_weights(network, sd)
    assert (network.mmle is not None, network.pfj is not None) == ("MMLE" in label, "PFJ" in label)


def without(sd, key):
    return {name: value for name, value in sd.items() if name != key}


@pytest.mark.parametrize(
    ("sd", "message"),
    [
        (without(parts(), "mmle.fc1.weight"), "fc1.weight is missing"),
        (without(parts(), "mmle.convs.3.weight"), "through 7 convolutions; the file has 3"),
        (without(parts(), "pfj.down.weight"), "down.weight is missing"),
        (parts(pfj=PfjConfig(12, 16, 24, 2, 20, 6)), r"the same number of metrics, got numbers of \[3, 6\]"),
        ({**parts(), "mmle.convs.0.weight": torch.zeros(16, 13, 3, 3)}, "takes three latents"),
        ({**parts(), "pfj.stem.weight": torch.zeros(12, 12, 3, 3)}, "multiples of 8"),
    ],
)
def test_files_that_do_not_fit_are_refused(sd, message):
    with pytest.raises(UnsupportedModelError, match=message):
        registry.identify(sd)


@pytest.mark.parametrize("change", [{"widths": (16,) * 6}, {"widths": (12,) * 7}, {"time_channels": 6}])
def test_sizes_that_cannot_be_are_refused(change):
    with pytest.raises(UnsupportedModelError, match="gain regressor"):
        MmleConfig(**change)


def test_the_metadata_comes_back():
    assert GainModelsInfo.from_metadata(INFO.to_metadata()) == INFO
    with_tau = replace(INFO, tau=2e-3)
    assert GainModelsInfo.from_metadata(with_tau.to_metadata()) == with_tau
    INFO.check_base("0123456789abcdef", "anything")


def test_metadata_without_tau_means_the_papers():
    content = json.loads(INFO.to_metadata()[METADATA_KEY])
    del content["tau"]
    assert GainModelsInfo.from_metadata({METADATA_KEY: json.dumps(content)}) == INFO


def edited(**change):
    content = json.loads(INFO.to_metadata()[METADATA_KEY])
    return {METADATA_KEY: json.dumps({**content, **change})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "has no metadata entry"),
        ({"format": "pt"}, "has no metadata entry"),
        ({METADATA_KEY: "{"}, "metadata entry"),
        ({METADATA_KEY: "[]"}, "metadata entry"),
        (edited(unheard=1), "metadata entry"),
        (edited(format=2), "of format 2"),
        (edited(metrics=[]), "with 0 metrics"),
        (edited(metrics=[{"name": "psnr"}]), "metadata entry"),
        (edited(tau=0.0), "a positive tau"),
        (edited(tau="a"), "metadata entry"),
        (edited(base=""), "expected format 1, a base"),
        (edited(metrics=[{**vars(INFO.metrics[0]), "high": 1.0}]), "finite rising ranges"),
        (edited(metrics=[{**vars(INFO.metrics[0]), "scale": 0.0}]), "finite rising ranges"),
        (edited(metrics=[{**vars(INFO.metrics[0]), "low": "a"}]), "metadata entry"),
    ],
)
def test_metadata_that_says_too_little_is_refused(metadata, message):
    with pytest.raises(UnsupportedModelError, match=message):
        GainModelsInfo.from_metadata(metadata)


def test_parts_for_another_base_are_refused_with_both_names():
    with pytest.raises(
        UnsupportedModelError, match=r"trained on StableSR on SD 2.1 \(0123.*, the MODEL is SDXL \(ffff\)"
    ):
        INFO.check_base("ffff", "SDXL")


def test_parts_with_other_metrics_than_the_metadata_names_are_refused():
    config = registry.identify(parts()).config
    with pytest.raises(UnsupportedModelError, match="have 3 gains, the metadata names 2 metrics"):
        INFO.check_parts(config)


def test_a_base_is_known_by_names_and_shapes():
    shapes = {"a.weight": (4, 3), "b": (7,)}
    assert base_identity(shapes) == base_identity({"b": [7], "a.weight": [4, 3]})
    others = [{**shapes, "a.weight": (3, 4)}, {"a.weight": (4, 3)}, {"c": (7,), "a.weight": (4, 3)}]
    assert len({base_identity(other) for other in [shapes, *others]}) == 4
