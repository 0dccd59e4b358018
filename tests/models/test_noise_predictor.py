"""InvSR's noise predictor: the published file by its key list, detection, and what the network does to sizes and times."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.noise_predictor import DiagonalGaussian, NoisePredictor, NoisePredictorConfig
from adaptivesr.models.state_dict import UnsupportedModelError, canonicalize, check_fit, load_weights

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys" / "noise_predictor.txt"
SMALL = NoisePredictorConfig((64, 128), (1, 2), sinusoid_dim=128, time_channels=32, out_channels=8, mid_attention=True)


def published():
    lines = [line.split() for line in KEYS.read_text().splitlines()]
    return {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape, _ in lines}


def small(config=SMALL, **options):
    network = NoisePredictor(config, **options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return network


def test_the_published_file_is_recognised_and_loads_strictly():
    sd = published()
    identified = registry.identify(canonicalize(sd))
    assert (identified.kind, identified.label) == (
        "noise_predictor", "InvSR noise predictor, x4 (published layout)",
    )  # fmt: skip
    network = registry.build(identified, device="meta")
    load_weights(network, sd)
    assert len(sd) == len(network.state_dict()) == 164
    assert sum(parameter.numel() for parameter in network.parameters()) == 33_837_576
    config = identified.config
    assert (config.channels, config.layers, config.factor, config.scale) == ((256, 512), (3, 3), 2, 4)
    assert (config.sinusoid_dim, config.time_channels, config.head_dim, config.groups) == (256, 512, 64, 32)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: {"state_dict": sd},
        lambda sd: {f"module.{key}": value for key, value in sd.items()},
        lambda sd: {f"_orig_mod.{key}": value for key, value in sd.items()},
        lambda sd: {"state_dict": {f"module._orig_mod.{key}": value for key, value in sd.items()}},
        lambda sd: {
            "state_dict_dis": {key: value[:0] for key, value in sd.items()}, "state_dict": sd, "iters_start": 5, "log_step": {"train": 1},
        },
    ],
)  # fmt: skip
def test_containers_and_prefixes_change_nothing_and_the_discriminator_is_never_taken(wrap):
    sd = published()
    assert canonicalize(wrap(sd)) == sd


def test_a_training_checkpoint_without_the_predictor_is_refused():
    with pytest.raises(UnsupportedModelError, match="state dict of tensors"):
        canonicalize({"state_dict_dis": published(), "iters_start": 5})


def test_the_encoder_of_an_autoencoder_in_the_same_naming_is_not_taken_for_it():
    sd = {
        "encoder.conv_in.weight": torch.empty(128, 3, 3, 3),
        "encoder.down_blocks.0.resnets.0.conv1.weight": torch.empty(128, 128, 3, 3),
        "encoder.mid_block.attentions.0.to_q.weight": torch.empty(512, 512),
        "encoder.conv_out.weight": torch.empty(8, 512, 3, 3),
        "decoder.conv_in.weight": torch.empty(512, 4, 3, 3),
        "quant_conv.weight": torch.empty(8, 8, 1, 1),
    }
    with pytest.raises(UnsupportedModelError, match="an InvSR noise predictor"):
        registry.identify(sd)


@pytest.mark.parametrize("key", sorted(published())[::16])
def test_any_lost_tensor_is_an_unsupported_model(key):
    sd = published()
    del sd[key]
    with pytest.raises(UnsupportedModelError):
        check_fit(registry.build(registry.identify(sd), device="meta"), sd)


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("encoder.conv_out.weight", (6, 512, 3, 3), "gives 6 channels"),
        ("encoder.down_blocks.0.resnets.0.conv1.weight", (200, 200, 3, 3), "levels of 200"),
    ],
)
def test_impossible_widths_are_named(key, shape, words):
    sd = {**published(), key: torch.empty(shape, device="meta")}
    with pytest.raises(UnsupportedModelError, match=words):
        registry.identify(sd)


@pytest.mark.parametrize(("levels", "factor", "scale"), [(1, 1, 8), (2, 2, 4), (3, 4, 2), (4, 8, 1)])
def test_levels_fix_the_scale_and_the_grid(levels, factor, scale):
    config = NoisePredictorConfig((64,) * levels, (1,) * levels, 128, 32, out_channels=8, mid_attention=False)
    assert (config.factor, config.scale) == (factor, scale)
    network = small(config)
    assert registry.identify(network.state_dict()).config == config
    assert network(torch.rand(1, 3, 16, 24), torch.tensor([99])).shape == (1, 8, 16 // factor, 24 // factor)


def test_a_network_without_variance_is_certain():
    config = NoisePredictorConfig((64, 64), (1, 1), 128, 32, out_channels=4, mid_attention=True)
    network = small(config)
    output = network(torch.rand(2, 3, 8, 8), torch.tensor([199, 99]))
    found = network.distribution(output)
    assert torch.equal(found.sample(torch.randn(output.shape)), output)


def test_attention_is_injected_in_heads_of_64_at_full_resolution():
    shapes = []

    def attention(q, k, v, mask=None):
        shapes.append(tuple(q.shape))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    image, time = torch.rand(1, 3, 6, 10), torch.tensor([199.0])
    injected, plain = small(attention=attention), small()
    torch.testing.assert_close(injected(image, time), plain(image, time), atol=1e-6, rtol=1e-6)
    assert shapes == [(1, 1, 60, 64), (1, 2, 15, 64), (1, 2, 15, 64), (1, 2, 15, 64)]


@torch.no_grad()
def test_images_of_a_batch_have_times_of_their_own():
    network, image = small(), torch.rand(3, 3, 8, 8)
    times = torch.tensor([249, 199, 99])
    together = network(image, times)
    alone = torch.cat([network(image[i : i + 1], times[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together - network(image, times.flip(0))).abs().amax((1, 2, 3))[0] > 1e-4


def test_the_log_variance_is_clamped_before_sampling():
    moments = torch.cat([torch.zeros(1, 4, 1, 1), torch.tensor([-100.0, 0.0, 2.0, 100.0]).view(1, 4, 1, 1)], dim=1)
    found = DiagonalGaussian.from_moments(moments.half())
    assert found.logvar.dtype == torch.float32
    assert found.logvar.flatten().tolist() == [-30.0, 0.0, 2.0, 20.0]
    torch.testing.assert_close(found.sample(torch.ones(1, 4, 1, 1)), found.std)
    standard = DiagonalGaussian(torch.zeros(2, 4, 3, 3), torch.zeros(2, 4, 3, 3))
    assert standard.kl().tolist() == [0.0, 0.0]
