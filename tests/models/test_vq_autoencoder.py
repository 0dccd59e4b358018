"""The VQ autoencoder equals the reference outputs; only decoding quantises."""

import json
from pathlib import Path

import pytest
import torch
from adaptivesr.models import vq_blocks
from adaptivesr.models.layers import Factory, scaled_dot_product
from adaptivesr.models.state_dict import UnsupportedModelError, load_weights
from adaptivesr.models.vq_autoencoder import VQAutoencoder, VQConfig
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tad_sr"
TOLERANCE = {"atol": 1e-4, "rtol": 0}


def golden(name):
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), json.loads(file.metadata()["config"])


def weights(tensors, prefix="w."):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture
def loaded():
    tensors, _ = golden("vq_autoencoder")
    sd = weights(tensors)
    network = VQAutoencoder(VQConfig.from_state_dict(sd), device="meta")
    load_weights(network, sd)
    return network.eval(), tensors


@pytest.mark.parametrize(
    ("tag", "block", "inputs"),
    [
        ("res", lambda: vq_blocks.VQResnetBlock(64, 32, Factory(nn)), "in.x_res"),
        ("attn", lambda: vq_blocks.AttnBlock(32, scaled_dot_product, Factory(nn)), "in.x"),
        ("down", lambda: vq_blocks.VQDownsample(32, Factory(nn)), "in.x"),
    ],
)
def test_blocks_equal_the_reference(tag, block, inputs):
    tensors, _ = golden("vq_blocks")
    network = block()
    network.load_state_dict(weights(tensors, f"w.{tag}."))
    torch.testing.assert_close(network(tensors[inputs]), tensors[f"out.{tag}"], **TOLERANCE)


def test_config_is_read_off_shapes():
    tensors, config = golden("vq_autoencoder")
    inner = config["params"]["ddconfig"]
    channels = tuple(inner["ch"] * m for m in inner["ch_mult"])
    blocks = (inner["num_res_blocks"],) * len(channels)
    assert VQConfig.from_state_dict(weights(tensors)) == VQConfig(32, channels, blocks, 3, 3, 3, 64)


def test_encode_decode_and_codes_equal_the_reference(loaded):
    network, tensors = loaded
    with torch.inference_mode():
        z = network.encode(tensors["in.image"])
        z_q, indices = network.quantize(tensors["out.z"])
        torch.testing.assert_close(z, tensors["out.z"], **TOLERANCE)
        assert torch.equal(indices.flatten(), tensors["out.indices"])
        torch.testing.assert_close(z_q, tensors["out.z_q"], **TOLERANCE)
        torch.testing.assert_close(network.decode(z), tensors["out.decoded_quantized"], **TOLERANCE)
        continuous = network.decode(z, quantize=False)
        torch.testing.assert_close(continuous, tensors["out.decoded_not_quantized"], **TOLERANCE)
    assert (network.downscale, network.latent_channels) == (4, 3)


def test_chunked_search_and_attention_equal_whole_ones(loaded, monkeypatch):
    network, tensors = loaded
    whole = network.decode(tensors["out.z"])
    monkeypatch.setattr(vq_blocks, "DISTANCE_LIMIT", 7 * 64)
    monkeypatch.setattr(vq_blocks, "SCORE_LIMIT", 7 * 60)
    torch.testing.assert_close(network.decode(tensors["out.z"]), whole, atol=1e-5, rtol=0)


def test_codes_do_not_depend_on_autocast_or_weight_dtype(loaded):
    network, tensors = loaded
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.quantize(tensors["out.z"])[1].flatten(), tensors["out.indices"])
    z_q, _ = network.quantize(tensors["out.z"].half())
    assert z_q.dtype == torch.float16


def test_quantising_passes_the_gradient_straight_through(loaded):
    network, tensors = loaded
    z = tensors["out.z"].clone().requires_grad_()
    z_q, indices = network.quantize(z)
    codes = tensors["w.quantize.embedding.weight"][indices].movedim(-1, 1)
    assert torch.equal(z_q, codes)
    z_q.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


def test_every_code_is_its_own_nearest(loaded):
    network, tensors = loaded
    codebook = tensors["w.quantize.embedding.weight"]
    z = codebook.T.reshape(1, 3, 8, 8)
    assert torch.equal(network.quantize(z)[1].flatten(), torch.arange(64))


def test_wrong_inputs_are_named(loaded):
    network, _ = loaded
    with pytest.raises(ValueError, match="multiples of 4"):
        network.encode(torch.zeros(1, 3, 10, 8))
    with pytest.raises(ValueError, match="3 channels"):
        network.decode(torch.zeros(1, 4, 2, 2))


def test_other_autoencoders_are_refused():
    sd = weights(golden("vq_autoencoder")[0])
    with pytest.raises(UnsupportedModelError, match="attention inside"):
        VQConfig.from_state_dict({**sd, "encoder.down.0.attn.0.q.weight": torch.zeros(1)})
    with pytest.raises(UnsupportedModelError, match="distribution"):
        VQConfig.from_state_dict({**sd, "encoder.conv_out.weight": torch.zeros(6, 32, 3, 3)})
    with pytest.raises(UnsupportedModelError, match=r"post_quant_conv\.weight is missing"):
        VQConfig.from_state_dict({key: value for key, value in sd.items() if key != "post_quant_conv.weight"})
