"""Controllable feature wrapping: published keys, the fusion's limits, refusals."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.cfw import (
    CFW,
    CFWConfig,
    FuseBlock,
    FuseConfig,
    autoencoder_weights,
    feature_bytes,
    fuse_bytes,
    fusion_weights,
)
from adaptivesr.models.layers import Factory
from adaptivesr.models.state_dict import UnsupportedModelError, canonicalize, load_weights

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys" / "vqgan_cfw.txt"
SMALL = CFWConfig((FuseConfig(32, 32, 8), FuseConfig(64, 64, 8)))


def published():
    rows = [line.split() for line in KEYS.read_text().splitlines()]
    return {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape, _ in rows}


def test_the_published_file_loads_strictly_at_full_size():
    losses = {"loss.logvar": torch.empty(()), "loss.discriminator.main.0.weight": torch.empty(64, 3, 4, 4)}
    sd = canonicalize({"state_dict": published() | losses, "epoch": 11})
    identified = registry.identify(sd)
    assert (identified.kind, identified.config) == ("cfw", CFWConfig())
    network, weights = registry.build(identified, device="meta"), fusion_weights(sd)
    load_weights(network, weights)
    assert len(weights) == 156 and sum(value.numel() for value in network.parameters()) == 44_393_728
    assert len(autoencoder_weights(sd)) == 248 and not autoencoder_weights(weights)


def test_fusion_layers_alone_are_enough():
    flat = fusion_weights(published())
    identified = registry.identify(canonicalize(flat))
    load_weights(registry.build(identified, device="meta"), flat)
    assert "256 and 512" in identified.label


@pytest.mark.parametrize(
    "layer", ["fusion_layer_1.encode_enc_3.conv2.bias", "fusion_layer_2.encode_enc_2.1.rdb2.conv4.weight"]
)
def test_a_lost_tensor_is_named(layer):
    sd = fusion_weights(published())
    del sd[f"decoder.{layer}"]
    with pytest.raises(UnsupportedModelError, match=f"missing decoder.{layer}"):
        load_weights(registry.build(registry.identify(sd), device="meta"), sd)


def test_an_extra_tensor_inside_the_fusion_is_named():
    sd = fusion_weights(published()) | {"decoder.fusion_layer_3.conv.weight": torch.empty(1, device="meta")}
    with pytest.raises(UnsupportedModelError, match=r"unexpected decoder\.fusion_layer_3"):
        load_weights(registry.build(registry.identify(sd), device="meta"), sd)


def test_the_autoencoder_alone_is_not_a_cfw_file():
    with pytest.raises(UnsupportedModelError, match="controllable feature wrapping"):
        registry.identify(autoencoder_weights(published()))


def test_a_block_that_sees_no_encoder_is_refused():
    sd = fusion_weights(published())
    sd["decoder.fusion_layer_1.encode_enc_1.conv1.weight"] = torch.empty(256, 256, 3, 3, device="meta")
    with pytest.raises(UnsupportedModelError, match="takes 256 channels and gives 256"):
        registry.identify(sd)


def random_cfw():
    torch.manual_seed(3)
    return CFW(SMALL).eval()


@torch.no_grad()
def test_strength_is_linear_and_zero_is_off():
    cfw, features = random_cfw(), [torch.randn(2, 64, 5, 7) for _ in range(2)]
    off, half, full = (cfw(2, *features, w) for w in (0.0, 0.5, 1.0))
    assert torch.equal(off, features[1])
    assert not torch.allclose(full, off, atol=1e-2)
    torch.testing.assert_close(half, (off + full) / 2)


@torch.no_grad()
def test_both_inputs_count_and_in_that_order():
    block = FuseBlock(FuseConfig(32, 32, 8), Factory(torch.nn)).eval()
    encoder, decoder = torch.randn(1, 32, 6, 6), torch.randn(1, 32, 6, 6)
    change = block(encoder, decoder, 1.0) - decoder
    assert not torch.allclose(change, block(decoder, encoder, 1.0) - encoder, atol=1e-3)
    assert not torch.allclose(change, block(encoder + 1, decoder, 1.0) - decoder, atol=1e-3)


@torch.no_grad()
def test_a_batch_is_single_calls():
    cfw, features = random_cfw(), [torch.randn(3, 32, 6, 4) for _ in range(2)]
    together = cfw(1, *features, 0.7)
    for i in range(3):
        torch.testing.assert_close(cfw(1, *(f[i : i + 1] for f in features), 0.7), together[i : i + 1])


@torch.no_grad()
def test_half_precision_keeps_float32_norms():
    cfw, features = random_cfw(), [torch.randn(1, 32, 6, 4) for _ in range(2)]
    expected = cfw(1, *features, 1.0)
    for parameter in (p for name, p in cfw.named_parameters() if "norm" not in name):
        parameter.data = parameter.data.bfloat16()
    found = cfw(1, *(f.bfloat16() for f in features), 1.0)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_memory_is_counted_per_pixel():
    config = CFWConfig()
    assert feature_bytes(config, 64, 64, 4) == (256 * 32 * 32 + 512 * 16 * 16) * 4
    assert fuse_bytes(config, 128, 64, 2) == 2 * fuse_bytes(config, 64, 64, 2)
    assert fuse_bytes(config, 64, 64, 4) < 2178 * 64 * 64 * 4  # below the host's own figure for the decoder
