"""What Load StableSR and StableSR Apply refuse, in a sentence each."""

import os
import re

import pytest
import torch
from adaptivesr.models.struct_parts import DENOISER, ENCODER
from safetensors.torch import save_file

ADVICE = "connect Stable Diffusion 2.1"


@pytest.fixture
def latent(randn):
    return randn(1, 4, 16, 24)


def tensors(*names):
    return {name: torch.zeros(2) for name in names}


def test_a_full_checkpoint_and_the_bare_parts_load_alike(load, weights, model, stablesr):
    base = {f"{DENOISER}{key}": value for key, value in model.model.diffusion_model.state_dict().items()}
    extras = tensors("betas", "first_stage_model.encoder.conv_in.bias", "cond_stage_model.model.logit_scale")
    whole = load({**base, **weights, **extras}, "whole.safetensors")
    assert whole.parts.state_dict().keys() == stablesr.parts.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in whole.parts.state_dict().items())
    assert "SFT layers" in whole.summary and "holds no denoiser" in whole.summary


def test_wrapped_pickles_load(folder, weights, comfy):
    import folder_paths

    torch.save({"state_dict": weights, "epoch": 117}, os.path.join(folder, "stablesr_000117.ckpt"))
    folder_paths.filename_list_cache.clear()
    loaded = comfy.module("host.stablesr.loading").load_stablesr("stablesr_000117.ckpt")
    assert loaded.prediction == "eps" and "512" in loaded.summary


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("decoder.fusion_layer_1.encode_enc_1.norm1.weight", "encoder.conv_in.weight"), "CFW"),
        ((f"{DENOISER}input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.weight"), "LDM-SR"),
        (("encoder.conv_in.weight", "decoder.conv_in.weight"), "an autoencoder"),
        (("sqrt_etas", "elsewhere"), "none that we know"),
        ((f"{ENCODER}input_blocks.0.0.weight",), "lacks|No known network"),
    ],
)
def test_other_files_are_named(load, names, words):
    with pytest.raises(ValueError, match=f"'other.safetensors'.*({words})"):
        load(tensors(*names), "other.safetensors")


def test_a_damaged_part_is_named(load, weights):
    key = f"{DENOISER}middle_block.0.spade.mlp_beta.bias"
    with pytest.raises(ValueError, match=f"missing {key}"):
        load({k: v for k, v in weights.items() if k != key}, "damaged.safetensors")
    with pytest.raises(ValueError, match=r"unexpected structcond_stage_model\.surplus"):
        load({**weights, f"{ENCODER}surplus": torch.zeros(1)}, "surplus.safetensors")


def test_a_truncated_file_is_named(folder, weights, comfy):
    import folder_paths

    path = os.path.join(folder, "truncated.safetensors")
    save_file(weights, path)
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path) // 2)
    folder_paths.filename_list_cache.clear()
    with pytest.raises(ValueError, match="could not be read"):
        comfy.module("host.stablesr.loading").load_stablesr("truncated.safetensors")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("SD15", {"context_dim": 768}, "Stable Diffusion 1.x with prompts of width 768"),
        ("SDXL", {"context_dim": 2048}, "SDXL with prompts of width 2048"),
        ("SD20", {"num_res_blocks": [2, 1, 1], "transformer_depth": [1] * 4, "transformer_depth_output": [1] * 7}, "they differ at input_blocks.2.0"),
        ("SD20", {"channel_mult": [1, 2, 2]}, "they differ at input_blocks"),
        ("SD20", {"num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4},
         "8 residual blocks on 2 levels, and the STABLESR file has SFT layers for 11 on 3"),
    ],
)  # fmt: skip
def test_another_base_is_refused(build, apply, prompts, latent, kind, changes, words):
    other = build(kind=kind, **changes)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        apply(other, prompts(1), prompts(2), latent)
    assert kind in str(error.value) and ADVICE in str(error.value)


def test_a_flow_model_is_refused(comfy, apply, prompts, latent):
    import comfy as host_package
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    mmdit = {
        "input_size": None, "patch_size": 2, "in_channels": 16, "depth": 1, "adm_in_channels": 32, "num_patches": 1024,
        "pos_embed_max_size": 32, "pos_embed_scaling_factor": None,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 64}},
    }  # fmt: skip
    cpu = torch.device("cpu")
    flow = host_package.model_base.SD3(host_package.supported_models.SD3(mmdit), device=cpu)
    flow = host_package.model_patcher.ModelPatcher(flow, load_device=cpu, offload_device=cpu)
    with pytest.raises(ValueError, match=f"kind SD3, which has no UNet: {ADVICE}"):
        apply(flow, prompts(1), prompts(2), latent)


@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (1, 4, 2, 8, 8), (1, 3, 8, 8)])
def test_latents_of_other_channels_are_refused(model, apply, prompts, randn, shape):
    with pytest.raises(ValueError, match=rf"LR LATENT of shape \({shape[0]}, {shape[1]},.*expected \(batch, 4"):
        apply(model, prompts(1), prompts(2), randn(*shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(model, apply, prompts, latent, value):
    latent[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        apply(model, prompts(1), prompts(2), latent)


def test_conditioning_that_did_not_pass_the_node_is_refused(model, apply, prompts, latent, sample):
    patched, positive, _ = apply(model, prompts(1), prompts(2), latent)
    blank = torch.zeros_like(latent)
    with pytest.raises(ValueError, match=r"no LR latent.*StableSR Apply; connect its positive and negative"):
        sample(patched, positive, prompts(2), blank, latent)
    # nothing is left behind: the right graph runs afterwards
    patched, *both = apply(model, prompts(1), prompts(2), latent)
    assert torch.isfinite(sample(patched, *both, blank, latent)).all()


def test_a_latent_of_another_size_is_refused_by_both_sizes(model, apply, prompts, latent, randn, sample):
    patched, *both = apply(model, prompts(1), prompts(2), latent)
    noise = randn(1, 4, 24, 16)
    with pytest.raises(ValueError, match="16 x 24 cells and the sampled latent 24 x 16"):
        sample(patched, *both, torch.zeros_like(noise), noise)
    both[0][0][1]["area"] = (8, 8, 16, 0)  # an area outside of the LR latent must not be cut before it is seen
    with pytest.raises(ValueError, match="16 x 24 cells and the sampled latent 24 x 16"):
        sample(patched, *both, torch.zeros_like(noise), noise)


def test_batches_that_do_not_match_are_refused(model, apply, prompts, randn, sample):
    patched, *both = apply(model, prompts(1), prompts(2), randn(2, 4, 8, 8))
    noise = randn(3, 4, 8, 8)
    with pytest.raises(ValueError, match="2 LR latents and 3 latents are sampled"):
        sample(patched, *both, torch.zeros_like(noise), noise)


def test_another_prediction_is_remarked_on_not_refused(comfy, model, build, weights, load, prompts, latent):
    host = comfy.module("host.stablesr.loading")
    named = load(weights, "webui_768v_139.safetensors")
    assert named.prediction == "v" and "SD 2.1 768 (v)" in named.summary
    given = prompts(1), prompts(2), named, {"samples": latent}, 1.0
    assert "predicts v, and the MODEL predicts eps" in host.apply_stablesr(model, *given)[3]
    assert host.apply_stablesr(build("V_PREDICTION"), *given)[3] == ""
    unknown = load(weights, "mine.safetensors")
    assert unknown.prediction is None
    assert host.apply_stablesr(model, *given[:2], unknown, *given[3:])[3] == ""


def test_another_patch_of_residual_blocks_is_logged_and_overruled(model, apply, prompts, latent, sample, caplog):
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

    other = model.clone()
    other.set_model_patch((ResBlock, lambda layer, x, emb, *_: 0 * layer(x, emb)), "forward_timestep_embed_patch")
    given = prompts(1), prompts(2), latent
    patched = apply(other, *given)
    assert "another patch of its residual blocks" in caplog.text
    blank = torch.zeros_like(latent)
    assert torch.equal(sample(*patched, blank, latent), sample(*apply(model, *given), blank, latent))
