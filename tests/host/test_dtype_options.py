"""Nodes under the host's options for dtypes, in real half precision on the CPU, against float32."""

import logging

import pytest
import torch
from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint

TOLERANCE = {"fp16": 6e-3, "bf16": 5e-2, "force": 1e-4}  # of the range of the result, by the option's first word
OPTIONS = ("fp16_unet", "bf16_unet", "fp16_vae", "bf16_vae", "force_channels_last")
PROMPT = [[torch.zeros(1, 77, 1024), {"pooled_output": torch.zeros(1, 1024)}]]


def picture(*shape):
    return torch.rand(1, *shape, 3, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def host(comfy, tmp_path, monkeypatch):
    """Everything that a run needs, loaded under an option of the host, which is told that its device computes in half precision."""
    import comfy.cli_args
    import comfy.model_management as mm
    import comfy.sd

    path = put_small_checkpoint(tmp_path)

    def load(option):
        if option is not None:
            monkeypatch.setattr(comfy.cli_args.args, option, True)
        for kind in ("fp16", "bf16"):  # else the CPU stores so and computes in float32
            monkeypatch.setattr(
                mm, f"should_use_{kind}", lambda *_, kind=kind, **__: option in (f"{kind}_unet", f"{kind}_vae")
            )
        model, vae = comfy.sd.load_checkpoint_guess_config(str(path), output_clip=False)[0::2]
        if option is None or "unet" not in option:
            model.model.to(torch.float32)
            model.model.manual_cast_dtype = None
            model.set_model_compute_dtype(torch.float32)
        return model, vae

    return load


def error(found, expected):
    return float((found.float() - expected).abs().max() / (expected.max() - expected.min()))


@pytest.fixture
def run(comfy, host):
    """What an option makes of an image in one step, of sampled regions, and of a picture that goes through the VAE; with dtypes."""

    def nodes(option, names):
        model, vae = host(option)
        found = {}
        with torch.inference_mode():
            if "one step" in names:
                sr = comfy.module("host.resshift.loading").load_one_step("embedded: one step")
                inputs = {
                    "scale": 4.0,
                    "width": 0,
                    "height": 0,
                    "steps": 1,
                    "seed": 1,
                    "color_fix": "none",
                    "tile": 256,
                }
                inputs |= {"overlap": 32, "tile_batch": 0, "chain": "stochastic"}
                image = comfy.node("AdaptiveSROneStepDistilledSR").execute(sr, picture(8, 11), **inputs).args[0]
                found["one step"] = image, sr.patcher.model.get_dtype_inference()
            if "regions" in names:
                latent = {"samples": torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(7))}
                settings = (3, 2, 4.0, "euler", "normal", 0.6, 64, 16, "consensus")
                node = comfy.node("AdaptiveSRTiledRegionSampler")
                sampled = node.execute(model, PROMPT, PROMPT, latent, *settings).args[0]
                found["regions"] = sampled["samples"], model.model.get_dtype_inference()
            if "vae" in names:
                codec = comfy.module("host.vae")
                found["vae"] = codec.decode(vae, codec.encode(vae, picture(32, 40).movedim(-1, 1))), vae.vae_dtype
        return found

    return nodes


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.mark.parametrize("option", OPTIONS)
def test_results_are_those_of_float32(run, known, option):
    kind, part = option.split("_")[:2]
    names = {"unet": ("one step", "regions"), "vae": ("vae",)}.get(part, ("one step", "regions", "vae"))
    known.update(run(None, [name for name in names if name not in known]))
    found = run(option, names)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(kind, torch.float32)
    assert {name: used for name, (_, used) in found.items()} == dict.fromkeys(names, dtype)
    assert {known[name][1] for name in names} == {torch.float32}
    errors = {name: error(result, known[name][0]) for name, (result, _) in found.items()}
    assert all(value < TOLERANCE[kind] for value in errors.values()), errors
    assert dtype == torch.float32 or max(errors.values()) > 1e-6, "half precision was at work"


@pytest.mark.parametrize("usable", [True, False])
def test_trainings_in_bfloat16_compute_in_float32_where_the_host_has_no_use_for_it_and_say_so(
    comfy, monkeypatch, caplog, usable
):
    networks = comfy.module("host.training.networks")
    monkeypatch.setattr(networks.mm, "should_use_bf16", lambda device, **_: usable)
    with caplog.at_level(logging.WARNING):
        assert networks.precision_of("bfloat16") is (torch.bfloat16 if usable else torch.float32)
    assert ("computes in float32" in caplog.text) == (not usable)
    assert networks.precision_of("float32") is torch.float32


def test_no_training_computes_in_bfloat16_on_a_cpu(comfy):
    assert comfy.module("host.training.networks").precision_of("bfloat16") is torch.float32
