"""The published files, known by their key lists, are recognised, built at full size and loaded strictly (on meta)."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.state_dict import (
    UnsupportedModelError,
    canonicalize,
    drop_derived_buffers,
    load_weights,
    parameter_bytes,
)

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys"
UNETS = {"resshift_x4": "x4", "resshift_face": "face", "resshift_inpaint": "inpaint", "resshift_x2": "x2"}
PARAMETERS = {
    "resshift_x4": 118.5936,
    "resshift_face": 118.9316,
    "resshift_inpaint": 118.7144,
    "resshift_x2": 118.6404,
    "vq_f4": 55.3228,
    "vq_f8_face": 77.0091,
}


def key_list(name):
    lines = [line.split() for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    return {
        key: torch.empty([int(side) for side in shape.split("x")], dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype in lines
    }


def build(name, **options):
    sd = canonicalize(key_list(name))
    identified = registry.identify(sd)
    network = registry.build(identified, device="meta", **options)
    load_weights(network, sd)
    return identified, network


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_strict_load_at_full_size(name):
    identified, network = build(name)
    assert identified.kind == ("residual_unet" if name in UNETS else "vq_autoencoder")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6, 4) == PARAMETERS[name]
    assert parameter_bytes(network) == 4 * count
    assert set(network.state_dict()) == set(drop_derived_buffers(key_list(name)))


@pytest.mark.parametrize("name", UNETS)
def test_denoiser_facts(name):
    identified, _ = build(name)
    config = identified.config
    stages = {"x4": 0, "x2": 1, "inpaint": 2, "face": 3}[UNETS[name]]
    assert (config.family, config.condition_stages) == (UNETS[name], stages)
    assert config.has_mask == (name == "resshift_inpaint")
    assert config.latent_channels == (8 if name == "resshift_face" else 3)
    assert (config.lq_factor, config.size_multiple, config.image_size) == (2**stages, 64, 64)
    assert (config.channels, config.blocks) == ((160, 320, 320, 640), (2, 2, 2, 2))
    assert UNETS[name] in identified.label and "published" in identified.label


def test_autoencoder_facts():
    four, eight = build("vq_f4"), build("vq_f8_face")
    assert (four[0].config.blocks, four[1].downscale, four[1].latent_channels) == ((2, 2, 2), 4, 3)
    assert (eight[0].config.blocks, eight[1].downscale, eight[1].latent_channels) == ((1, 2, 3, 4), 8, 8)
    assert "VQ-f4" in four[0].label and "VQ-f8 face" in eight[0].label


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: {"state_dict": sd, "iters_start": 500000, "log_step": {"train": 1}},
        lambda sd: {"params_ema": sd, "params": {key: value[:0] for key, value in sd.items()}},
        lambda sd: {"ema": {"state_dict": sd}},
        lambda sd: {"model": sd},
        lambda sd: {f"module.{key}": value for key, value in sd.items()},
        lambda sd: {f"_orig_mod.{key}": value for key, value in sd.items()},
        lambda sd: {"state_dict": {f"module._orig_mod.{key}": value for key, value in sd.items()}},
        lambda sd: {f"_orig_mod.module.{key}": value for key, value in sd.items()},
    ],
)
def test_containers_and_prefixes_change_nothing(wrap):
    sd = key_list("resshift_x4")
    canonical = canonicalize(wrap(sd))
    assert canonical == sd
    assert registry.identify(canonical) == registry.identify(sd)


def test_rounding_noise_in_averaged_buffers_and_lost_buffers_change_nothing():
    sd = key_list("resshift_x4")
    noisy = {key: value.double() if key.endswith("attn_mask") else value for key, value in sd.items()}
    assert registry.identify(noisy) == registry.identify(drop_derived_buffers(sd)) == registry.identify(sd)


def test_dropping_buffers_is_pure_and_exact():
    sd = key_list("resshift_x4")
    before = dict(sd)
    dropped = drop_derived_buffers(sd)
    assert sd == before
    assert len(sd) - len(dropped) == 18 + 6  # one index per Swin block, one mask per shifted one
    assert all(key.endswith(("relative_position_index", "attn_mask")) for key in set(sd) - set(dropped))


def test_third_party_student_is_refused_by_name():
    sd = key_list("resshift_x4")
    sd["input_blocks.0.0.weight"] = torch.empty(160, 7, 3, 3, device="meta")
    with pytest.raises(UnsupportedModelError, match="RSD student"):
        registry.identify(sd)
    sd["input_blocks.0.0.weight"] = torch.empty(160, 9, 3, 3, device="meta")
    with pytest.raises(UnsupportedModelError, match="takes 9 channels, expected 6"):
        registry.identify(sd)


def test_unknown_files_are_told_what_would_match():
    sd = {f"layer.{i}.weight": torch.empty(1) for i in range(7)}
    with pytest.raises(UnsupportedModelError) as error:
        registry.identify(canonicalize(sd))
    sentence = str(error.value)
    assert "7 entries" in sentence and "layer.4.weight" in sentence and "layer.5.weight" not in sentence
    for row in registry.TABLE:
        assert row.what in sentence and all(key in sentence for key in row.keys)


@pytest.mark.parametrize("sd", [{}, {"state_dict": {}}, {"epoch": 3, "config": {"a": 1}}])
def test_files_without_tensors_are_refused(sd):
    with pytest.raises(UnsupportedModelError, match="state dict of tensors"):
        canonicalize(sd)


def test_the_same_network_twice_is_refused():
    sd = {"out.weight": torch.empty(1), "module.out.weight": torch.empty(1)}
    with pytest.raises(UnsupportedModelError, match="twice"):
        canonicalize(sd)


@pytest.mark.parametrize(
    "key",
    [
        "time_embed.0.weight",
        "input_blocks.1.0.in_layers.0.weight",
        "input_blocks.1.0.out_layers.3.weight",
        "middle_block.1.blocks.0.attn.relative_position_bias_table",
        "input_blocks.1.1.blocks.0.attn.qkv.weight",
        "input_blocks.1.1.blocks.0.mlp.fc1.weight",
    ],
)
def test_missing_denoiser_keys_are_named(key):
    sd = key_list("resshift_x4")
    del sd[key]
    with pytest.raises(UnsupportedModelError, match=key):
        registry.identify(sd)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_any_single_lost_tensor_is_an_unsupported_model(name):
    sd = drop_derived_buffers(key_list(name))
    for key in list(sd)[3 :: len(sd) // 5]:
        rest = {other: value for other, value in sd.items() if other != key}
        with pytest.raises(UnsupportedModelError):
            load_weights(registry.build(registry.identify(rest), device="meta"), rest)


def test_a_wrong_shape_is_named():
    sd = key_list("vq_f4")
    network = registry.build(registry.identify(sd), device="meta")
    sd["decoder.mid.attn_1.q.weight"] = torch.empty(512, 256, 1, 1, device="meta")
    with pytest.raises(UnsupportedModelError, match=r"decoder\.mid\.attn_1\.q\.weight is \(512, 256, 1, 1\)"):
        load_weights(network, sd)


def test_discriminators_are_recognised_and_not_built():
    sd = {f"heads.{i}.main.0.0.weight_orig": torch.empty(1) for i in range(5)} | {
        "emb_layers.0.1.weight": torch.empty(1)
    }
    identified = registry.identify(sd)
    assert (identified.kind, identified.config) == ("time_aware_discriminator", None) and "5 heads" in identified.label
    with pytest.raises(UnsupportedModelError, match="training"):
        registry.build(identified)


def test_embedded_denoiser_round_trips():
    made = registry.build(registry.Identified("pixel_denoiser", "", registry.PixelDenoiserConfig(channels=8, blocks=2)))
    sd = made.state_dict()
    identified = registry.identify(sd)
    assert identified.kind == "pixel_denoiser" and identified.config.channels == 8
    load_weights(registry.build(identified, device="meta"), sd)


def test_a_damaged_embedded_denoiser_is_an_unsupported_model():
    with pytest.raises(UnsupportedModelError, match="is missing"):
        registry.identify({"sqrt_etas": torch.empty(15), "kappa": torch.empty(())})
