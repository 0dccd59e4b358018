"""The ResShift denoiser equals the reference outputs, and keeps its laws in every precision and size."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.models.layers import Factory, scaled_dot_product, timestep_embedding
from adaptivesr.models.residual_unet import ResidualUNet, ResidualUNetConfig, TimeResBlock
from adaptivesr.models.state_dict import drop_derived_buffers, load_weights
from adaptivesr.models.swin import SwinBlock, SwinConfig, last_row_mask, relative_position_index
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


def load_unet(name, **options):
    tensors, config = golden(name)
    sd = weights(tensors)
    network = ResidualUNet(ResidualUNetConfig.from_state_dict(sd), device="meta", **options)
    load_weights(network, sd)
    return network.eval(), tensors, config


class Casting:
    """Layers that cast their weights to the input, as hosts supply them."""

    class Conv2d(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)

    class Linear(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    class GroupNorm(nn.GroupNorm):
        def forward(self, x):
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def test_timestep_embedding_equals_the_reference():
    tensors, _ = golden("timestep_embedding")
    for dim in (160, 32, 33):
        for t in (tensors["in.t"], tensors["in.t"].float()):
            torch.testing.assert_close(timestep_embedding(t, dim), tensors[f"out.dim{dim}"], atol=1e-5, rtol=0)


def test_residual_block_equals_the_reference():
    tensors, config = golden("resblock")
    block = TimeResBlock(config["channels"], config["out_channels"], config["emb_channels"], Factory(nn))
    block.load_state_dict(weights(tensors))
    torch.testing.assert_close(block(tensors["in.x"], tensors["in.emb"]), tensors["out.y"], **TOLERANCE)


@pytest.mark.parametrize("entry", golden("swin_block")[1]["entries"], ids=lambda entry: entry[0])
def test_swin_blocks_equal_the_reference(entry):
    tensors, _ = golden("swin_block")
    tag, values, _, effective = entry
    window, shift = effective["effective_window"], effective["effective_shift"]
    spec = SwinConfig(values["dim"], 1, values["num_heads"], window, int(values["dim"] * values["mlp_ratio"]))
    block = SwinBlock(spec, window, shift, scaled_dot_product, Factory(nn))
    sd = weights(tensors, f"w.{tag}.")
    index = sd.get("attn.relative_position_index")
    assert index is None or torch.equal(index, relative_position_index(window))
    block.load_state_dict(drop_derived_buffers(sd))
    torch.testing.assert_close(block(tensors[f"{tag}.in.x"]), tensors[f"{tag}.out.y"], **TOLERANCE)


@pytest.mark.parametrize(("tag", "window", "shift", "columns"), [("shift4_w8", 8, 4, 3), ("shift2_w4_tall", 4, 2, 2)])
def test_only_the_last_window_row_is_masked(tag, window, shift, columns):
    expected = golden("swin_block")[0][f"{tag}.mask"]  # (R S, L, L)
    assert not expected[:-columns].any()
    for mask in expected[-columns:]:
        assert torch.equal(mask, last_row_mask(window, shift))


@pytest.mark.parametrize("name", ["swin_unet_a", "swin_unet_b"])
def test_config_is_read_off_shapes(name):
    tensors, config = golden(name)
    params = config["params"]
    read = ResidualUNetConfig.from_state_dict(weights(tensors))
    levels = len(params["channel_mult"])
    assert read == ResidualUNetConfig(
        latent_channels=params["in_channels"],
        model_channels=params["model_channels"],
        channels=tuple(params["model_channels"] * m for m in params["channel_mult"]),
        blocks=tuple(params["num_res_blocks"]),
        has_swin=(True,) * levels,
        swin=SwinConfig(
            embed_dim=params["swin_embed_dim"],
            depth=params["swin_depth"],
            heads=params["swin_embed_dim"] // params["num_head_channels"],
            window=params["window_size"],
            mlp_hidden=params["swin_embed_dim"] * params["mlp_ratio"],
        ),
        condition_stages=(params["lq_size"] // params["image_size"]).bit_length() - 1,
        has_mask=False,
        image_size=params["image_size"],
    )
    assert read.lq_factor == params["lq_size"] // params["image_size"]
    assert read.size_multiple == params["window_size"] << (levels - 1)


def test_image_size_is_given_or_published_when_buffers_are_gone():
    sd = drop_derived_buffers(weights(golden("swin_unet_a")[0]))
    assert ResidualUNetConfig.from_state_dict(sd).image_size == 64
    assert ResidualUNetConfig.from_state_dict(sd, image_size=16).image_size == 16


@pytest.mark.parametrize("name", ["swin_unet_a", "swin_unet_b"])
@pytest.mark.parametrize("run", ["run0", "run1"])
def test_denoiser_equals_the_reference(name, run):
    network, tensors, _ = load_unet(name)
    taps: list[torch.Tensor] = []
    for block in network.input_blocks:
        block.register_forward_hook(lambda _module, _inputs, output: taps.append(output))
    network.middle_block.register_forward_hook(lambda _module, _inputs, output: taps.append(output))
    x, t, lq = (tensors[f"{run}.in.{part}"] for part in ("x", "t", "lq"))
    with torch.inference_mode():
        torch.testing.assert_close(network(x, t, lq), tensors[f"{run}.out.y"], **TOLERANCE)
    if run == "run0":
        expected = [tensors[f"run0.hs.{i}"] for i in range(len(network.input_blocks))] + [tensors["run0.mid"]]
        for tap, value in zip(taps[: len(expected)], expected, strict=True):
            torch.testing.assert_close(tap, value, **TOLERANCE)


def test_time_indices_may_be_floats():
    network, tensors, _ = load_unet("swin_unet_b")
    x, t, lq = (tensors[f"run0.in.{part}"] for part in ("x", "t", "lq"))
    assert torch.equal(network(x, t, lq), network(x, t.float(), lq))


def test_features_are_the_discriminators_taps():
    network, tensors, _ = load_unet("swin_unet_a")
    features = network.features(*(tensors[f"run0.in.{part}"] for part in ("x", "t", "lq")))
    expected = [tensors[f"run0.hs.{i}"] for i in (2, 4, 5)] + [tensors["run0.mid"]]
    for feature, value in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, value, **TOLERANCE)


def test_a_batch_equals_single_calls():
    network, tensors, _ = load_unet("swin_unet_a")
    x, t, lq = (tensors[f"run1.in.{part}"] for part in ("x", "t", "lq"))
    singles = torch.cat([network(x[i : i + 1], t[i : i + 1], lq[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(network(x, t, lq), singles, atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", [torch.float32, torch.float16, torch.bfloat16])
def test_half_weights_serve_any_activation_dtype(activation):
    network, tensors, _ = load_unet("swin_unet_b", operations=Casting)
    network.half()
    x, t, lq = (tensors[f"run0.in.{part}"] for part in ("x", "t", "lq"))
    with torch.inference_mode():
        y = network(x.to(activation), t, lq)
    assert y.dtype == activation
    tolerance = {torch.float32: 0.02, torch.float16: 0.05, torch.bfloat16: 0.2}[activation]
    torch.testing.assert_close(y.float(), tensors["run0.out.y"], atol=tolerance, rtol=0)


def test_injected_attention_is_the_only_one_used():
    calls: list[tuple[int, ...]] = []

    def counted(q, k, v, mask=None):
        calls.append(tuple(q.shape))
        return scaled_dot_product(q, k, v, mask)

    network, tensors, _ = load_unet("swin_unet_b", attention=counted)
    y = network(*(tensors[f"run0.in.{part}"] for part in ("x", "t", "lq")))
    torch.testing.assert_close(y, tensors["run0.out.y"], **TOLERANCE)
    assert calls and all(shape[1:] == (2, 16, 16) for shape in calls)


def test_gradients_reach_the_latent_and_every_parameter():
    network, tensors, _ = load_unet("swin_unet_b")
    x = tensors["run0.in.x"].requires_grad_()
    network(x, tensors["run0.in.t"], tensors["run0.in.lq"]).square().mean().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_wrong_inputs_are_named():
    network, tensors, _ = load_unet("swin_unet_b")
    x, t, lq = (tensors[f"run0.in.{part}"] for part in ("x", "t", "lq"))
    with pytest.raises(ValueError, match="multiples of 8"):
        network(x[..., :6], t, lq)
    with pytest.raises(ValueError, match="4 channels"):
        network(x[:, :3], t, lq)
    with pytest.raises(ValueError, match=r"size \(32, 32\)"):
        network(x, t, lq[..., :16])
    with pytest.raises(ValueError, match="takes no mask"):
        network(x, t, lq, lq[:, :1])
