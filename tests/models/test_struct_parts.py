"""StableSR's encoder and SFT layers: published key list, detection, and what the layers do."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.layers import Factory
from adaptivesr.models.spade import SpadeModulation, SpadeShape, modulate, modulated_block
from adaptivesr.models.state_dict import UnsupportedModelError, canonicalize, check_fit, load_weights
from adaptivesr.models.struct_encoder import EncoderBlock, TimedBlock
from adaptivesr.models.struct_parts import (
    DENOISER,
    ENCODER,
    StructParts,
    StructPartsConfig,
    base_prediction,
    describe_other,
    select_parts,
)
from adaptivesr.tools.small_models.stablesr import small_stablesr

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys" / "stablesr_512.txt"
BLOCKS = {"input_blocks.1.0": 32, "middle_block.0": 32, "output_blocks.0.0": 64}


def published():
    """Every tensor of the training checkpoint, on meta."""
    sd = {}
    for key, shape, dtype in (line.split() for line in KEYS.read_text().splitlines()):
        sides = [] if shape == "-" else [int(side) for side in shape.split("x")]
        sd[key] = torch.empty(sides, dtype=getattr(torch, dtype), device="meta")
    return sd


def webui():
    """The flat file of the A1111 port, by the rule it was made with."""
    return {key: value for key, value in published().items() if "spade" in key or "structcond" in key}


def count(sd):
    return sum(value.numel() for value in sd.values())


def test_parameter_counts_are_the_papers():
    sd = select_parts(published())
    encoder = {key: value for key, value in sd.items() if key.startswith(ENCODER)}
    sft = {key: value for key, value in sd.items() if ".spade." in key}
    assert (len(encoder), count(encoder)) == (200, 52_494_080)
    assert (len(sft), count(sft)) == (176, 53_020_160)
    assert count(sd) == 105_514_240


@pytest.mark.parametrize("file", [published, webui])
def test_strict_load_at_full_size(file):
    sd = file()
    identified = registry.identify(canonicalize(sd))
    assert identified.kind == "struct_parts"
    assert "22 SFT layers" in identified.label and "105.5 M" in identified.label
    network = registry.build(identified, device="meta")
    load_weights(network, select_parts(sd))
    assert set(network.state_dict()) == set(webui())
    config = identified.config
    widths = [block.channels for block in config.encoder.blocks]
    assert widths == [256, 256, 256, 256, 256, 256, 512, 512, 512, 512, 512]
    assert [block.attention for block in config.encoder.blocks] == [True, True, False] * 3 + [False] * 2
    assert (config.encoder.levels, config.encoder.heads, config.encoder.out_channels) == (4, 4, 256)
    assert {shape.hidden for _, shape in config.modulations} == {128}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: {"state_dict": sd, "epoch": 117, "callbacks": {"a": 1}},
        lambda sd: {f"module.{key}": value for key, value in sd.items()},
        lambda sd: sd | {"loss.logvar": torch.empty(1), "model_ema.decay": torch.empty(1)},
        lambda sd: dict(reversed(sd.items())),
    ],
)
def test_containers_extras_and_order_change_nothing(wrap):
    canonical = canonicalize(wrap(published()))
    assert select_parts(canonical).keys() == webui().keys()
    identified = registry.identify(canonical)
    assert set(identified.config.modulations) == set(registry.identify(published()).config.modulations)


@pytest.mark.slow
def test_every_lost_tensor_is_named():
    sd = webui()
    for key in list(sd)[::7]:
        rest = {other: value for other, value in sd.items() if other != key}
        with pytest.raises(UnsupportedModelError, match=key.removeprefix(ENCODER)):
            check_fit(registry.build(registry.identify(rest), device="meta"), select_parts(rest))


@pytest.mark.parametrize("key", [f"{ENCODER}surplus.weight", f"{DENOISER}middle_block.0.spade.mlp_delta.bias"])
def test_unexpected_names_inside_the_parts_are_reported(key):
    sd = webui() | {key: torch.empty(1, device="meta")}
    with pytest.raises(UnsupportedModelError, match=f"unexpected {key}"):
        check_fit(registry.build(registry.identify(sd), device="meta"), select_parts(sd))


def test_a_wrong_shape_is_named():
    sd = webui()
    key = f"{ENCODER}middle_block.1.qkv.weight"
    sd[key] = torch.empty(1536, 256, 1, device="meta")
    with pytest.raises(UnsupportedModelError, match=r"middle_block\.1\.qkv\.weight is \(1536, 256, 1\)"):
        check_fit(registry.build(registry.identify(sd), device="meta"), sd)


@pytest.mark.parametrize(("kept", "lost"), [(ENCODER, "SFT layers"), (DENOISER, "time-aware encoder")])
def test_half_a_file_says_which_half_is_missing(kept, lost):
    with pytest.raises(UnsupportedModelError, match=lost):
        StructPartsConfig.from_state_dict({key: value for key, value in webui().items() if key.startswith(kept)})


def test_other_files_are_described():
    parts = webui()
    plain = {key: value for key, value in published().items() if key not in parts}
    assert "diffusion model" in describe_other(plain)
    assert "CFW" in describe_other({"decoder.fusion_layer_2.encode_enc_1.norm1.weight": torch.empty(1)})
    assert "autoencoder" in describe_other({"encoder.a": torch.empty(1), "decoder.a": torch.empty(1)})
    assert "none" in describe_other({"a.b": torch.empty(1)})


def test_the_base_is_known_only_where_the_file_has_it():
    key = f"{DENOISER}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    assert base_prediction(webui()) is None and base_prediction(published()) is None  # meta holds no values
    noise = torch.randn(320, generator=torch.Generator().manual_seed(0))
    assert base_prediction({key: 0.05 * noise}) == "eps"
    assert base_prediction({key: 0.2 * noise}) == "v"


@pytest.fixture(scope="module")
def parts():
    sd = small_stablesr(BLOCKS, levels=3)
    network = registry.build(registry.identify(sd))
    load_weights(network, sd)
    return network.eval()


def test_small_files_are_built_from_their_keys(parts):
    assert isinstance(parts, StructParts)
    assert parts.modulations().keys() == BLOCKS.keys()
    assert parts.encoder.config.blocks[:2] == (EncoderBlock(64, attention=True), EncoderBlock(64, halves=True))


@torch.no_grad()
def test_maps_halve_upwards_and_rows_do_not_mix(parts):
    generator = torch.Generator().manual_seed(1)
    latent, t = torch.randn(3, 4, 9, 6, generator=generator), torch.tensor([999.0, 0.0, 333.5])
    maps = parts.encoder(latent, t)
    assert [tuple(level.shape) for level in maps] == [(3, 64, 9, 6), (3, 64, 5, 3), (3, 64, 3, 2)]
    for row in range(3):
        for level, alone in zip(maps, parts.encoder(latent[row : row + 1], t[row : row + 1])):
            torch.testing.assert_close(level[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    later = parts.encoder(latent, t + 100)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(maps, later)), "the encoder knows the time"


@torch.no_grad()
def test_strength_blends_from_the_plain_block():
    make, generator = Factory(torch.nn), torch.Generator().manual_seed(2)
    block, layer = TimedBlock(32, 64, 16, make), SpadeModulation(SpadeShape(64, 16, 8), make)
    x, emb, features = (torch.randn(*s, generator=generator) for s in ((2, 32, 5, 4), (2, 16), (2, 8, 5, 4)))
    off, half, full = (
        modulated_block(block, x, emb, lambda h, s=s: modulate(layer, h, features, None, s)) for s in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(off, block(x, emb), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(half, (off + full) / 2, atol=1e-5, rtol=1e-5)
    assert (full - off).abs().max() > 0.1


@torch.no_grad()
def test_rows_share_what_was_encoded_once():
    layer, generator = SpadeModulation(SpadeShape(64, 16, 8), Factory(torch.nn)), torch.Generator().manual_seed(3)
    h, features = torch.randn(4, 64, 5, 4, generator=generator), torch.randn(2, 8, 5, 4, generator=generator)
    rows = torch.tensor([0, 1, 0, 0])
    torch.testing.assert_close(layer(h, features, rows), layer(h, features[rows]), atol=1e-5, rtol=1e-5)


def test_half_precision_stays_finite_where_the_norm_overflows_it():
    layer = SpadeModulation(SpadeShape(32, 32, 32), Factory(torch.nn)).bfloat16()
    h = 1e4 * torch.ones(1, 32, 4, 4).bfloat16()  # its square is beyond float16, its variance 0
    layer.param_free_norm.float()
    assert torch.isfinite(layer(h, torch.ones(1, 32, 4, 4).bfloat16()).float()).all()
