"""Super Resolution (StableSR): exact sizes, what its stages are, presets, batches, refusals, and the base in a full checkpoint."""

import json
import os
from dataclasses import replace

import pytest
import torch
from adaptivesr.tools.small_models.cfw import small_cfw
from adaptivesr.tools.small_models.checkpoints import small_checkpoint
from adaptivesr.tools.small_models.stablesr import stablesr_for_small_checkpoint
from safetensors.torch import save_file

FULL, PARTS, CFW = "full_stablesr_of_upscale.safetensors", "parts_of_upscale.safetensors", "cfw_of_upscale.safetensors"


@pytest.fixture(scope="module")
def files(comfy):
    """A full StableSR checkpoint, its parts alone, and a CFW file."""
    import folder_paths

    folder = os.path.join(folder_paths.models_dir, "adaptivesr")
    parts = stablesr_for_small_checkpoint()
    for kind, name, tensors in (
        ("stablesr", FULL, {**small_checkpoint(), **parts}),
        ("stablesr", PARTS, parts),
        ("cfw", CFW, small_cfw()),
    ):
        os.makedirs(os.path.join(folder, kind), exist_ok=True)
        save_file(tensors, os.path.join(folder, kind, name))
    folder_paths.filename_list_cache.clear()


@pytest.fixture(scope="module")
def parts(comfy, files):
    """Inputs of the node but picture and choices, out of the full checkpoint and the CFW file."""
    import folder_paths
    from comfy import sd

    stablesr, _, *_ = comfy.node("AdaptiveSRLoadStableSR").execute(PARTS).result
    path = os.path.join(folder_paths.models_dir, "adaptivesr", "stablesr", FULL)
    model = sd.load_checkpoint_guess_config(path, output_clip=False)[0]
    cfw, vae, _ = comfy.node("AdaptiveSRLoadCFW").execute(CFW).result
    prompt = comfy.node("AdaptiveSREmptyPrompt").execute(model).result[0]
    return {"model": model, "positive": prompt, "negative": prompt, "stablesr": stablesr, "vae": vae, "cfw": cfw}


TRAINED = 64
"""Pixels that the base stands for having been trained on; the real 512 take seconds a step."""


@pytest.fixture
def upscale(comfy, parts, monkeypatch):
    """IMAGE (B, H, W, C) -> IMAGE and report, in one step by default."""
    kind_of = comfy.module("host.regions.fitting").kind_of
    node, module = comfy.node("AdaptiveSRStableSRUpscale"), comfy.module("host.stablesr.upscale")
    monkeypatch.setattr(module, "kind_of", lambda model: replace(kind_of(model), trained_px=TRAINED))

    def run(image, **changes):
        choices = {"preset": "turbo, 4 steps", "scale": 4.0, "seed": 1, "w": 0.5, "color_fix": "adain", "steps": 1}
        with torch.inference_mode():
            result = node.execute(image=image, **{**parts, **choices, **changes}).result
        return result[0], json.loads(result[1])

    return run


def picture(height, width, batch=1, channels=3, seed=5):
    """Smooth IMAGE (B, H, W, C)."""
    coarse = torch.rand(batch, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").movedim(1, -1)


@pytest.mark.parametrize(("width", "height"), [(33, 17), (1, 1), (70, 1), (29, 31)])
def test_every_size_comes_out_exactly_scaled(upscale, width, height):
    image, report = upscale(picture(height, width))
    assert image.shape == (1, 4 * height, 4 * width, 3)
    assert report["output"] == f"{4 * width}x{4 * height}"


def test_other_scales_round(upscale):
    image, _ = upscale(picture(33, 50), scale=1.5)
    assert image.shape == (1, 50, 75, 3)


def test_the_result_has_the_inputs_mean_colours_and_shapes(upscale):
    small = picture(32, 32)
    large, _ = upscale(small)
    there = torch.nn.functional.interpolate(large.movedim(-1, 1), scale_factor=0.25, mode="area").movedim(1, -1)
    torch.testing.assert_close(there.mean((1, 2)), small.mean((1, 2)), atol=0.01, rtol=0)
    assert torch.corrcoef(torch.stack([there.flatten(), small.flatten()]))[0, 1] > 0.9


def test_a_batch_gives_what_its_pictures_give_alone_and_transparency_stays(upscale):
    both = torch.cat([picture(16, 18, channels=4, seed=1), picture(16, 18, channels=4, seed=2)])
    together, _ = upscale(both)
    assert together.shape == (2, 64, 72, 4)
    for index in range(2):
        alone, _ = upscale(both[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("preset", "sampler", "steps"),
    [("paper, 200 steps", "ddpm", 200), ("DDIM, 20 steps", "ddim", 20), ("turbo, 4 steps", "ddpm", 4)],
)
def test_presets_are_the_published_chains(comfy, preset, sampler, steps):
    found = comfy.module("host.stablesr.upscale").PRESETS[preset]
    assert (found.sampler, found.steps) == (sampler, steps)


def test_steps_of_a_preset_are_calls_of_the_model(upscale):
    _, report = upscale(picture(16, 16), steps=0)
    assert report["steps_per_region"] == [[4]] and report["tiles"] == 1 and report["sampler"] == "ddpm"
    _, report = upscale(picture(16, 24), steps=2, preset="DDIM, 20 steps")
    assert (
        report["steps_per_region"] == [[2, 2]] and report["sampler"] == "ddim"
    )  # 96 x 64: two regions that share half


def test_every_part_counts(upscale, parts):
    image = picture(16, 16)
    whole, _ = upscale(image, color_fix="none")
    changes = {"w": {"w": 0.0}, "cfw": {"cfw": None}, "seed": {"seed": 2}, "color": {"color_fix": "wavelet"}}
    for changed in changes.values():
        assert not torch.equal(upscale(image, **{"color_fix": "none", **changed})[0], whole)


def test_the_canvas_follows_the_trained_size(comfy):
    canvas_of = comfy.module("host.stablesr.upscale").canvas_of
    assert canvas_of(300, 200, 4.0, 512).enlarged == (1200, 800)
    assert canvas_of(300, 200, 4.0, 768).enlarged == (1200, 800)
    assert canvas_of(100, 150, 4.0, 768).enlarged == (768, 1152)
    assert canvas_of(100, 150, 4.0, 768).result == (400, 600)
    assert canvas_of(1, 64, 4.0, 512).enlarged == (16, 1024)  # a strip
    assert canvas_of(1, 640, 4.0, 512).enlarged == (4, 2560)


def test_parts_that_do_not_fit_are_refused_before_sampling(comfy, upscale, build):
    with pytest.raises(ValueError, match="StableSR Apply got a MODEL"):
        upscale(picture(8, 8), model=build())
    with pytest.raises(ValueError, match="tile_size of 32 pixels"):
        upscale(picture(8, 8), tile_size=32)


def test_a_full_checkpoint_needs_a_text_encoder_and_parts_alone_have_no_base(comfy, files):
    node = comfy.node("AdaptiveSRLoadStableSR")
    assert node.execute(FULL).result[2:] == (None, None, None)
    with pytest.raises(ValueError, match="holds StableSR's parts alone: expected a full checkpoint"):
        node.execute(PARTS, load_base=True)
    with pytest.raises(ValueError, match="holds a base that ComfyUI cannot load"):
        node.execute(FULL, load_base=True)  # the small one has no text encoder
