"""Runs at the edges: no step left, step caches, the largest seed, canvases one cell wide, models whose latents are not maps."""

import pytest
import torch

LARGEST_SEED = 2**64 - 1


def maps(height=8, width=12, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 4, height, width, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("levels", [[], [3.0], [0.0]])
def test_without_a_step_the_result_is_the_hosts(patcher, prompts, region, sample, levels):
    import comfy.samplers

    latent, noise = maps()
    arguments = patcher("eps"), prompts(1), prompts(2), latent, noise
    model, *rest = arguments
    expected = sample(model, comfy.samplers.sampler_object("euler"), *rest, sigmas=torch.tensor(levels))
    options = region.RegionOptions(tile_px=64, overlap_px=16)
    assert torch.equal(sample(model, region.RegionSampler(options), *rest, sigmas=torch.tensor(levels)), expected)


@pytest.mark.parametrize("kind", ["EasyCache", "LazyCache"])
def test_a_step_cache_is_refused_by_its_name(comfy, patcher, prompts, region, sample, kind):
    import comfy_extras.nodes_easycache as caches

    node = getattr(caches, f"{kind}Node")
    model = node.execute(patcher("eps"), 0.2, 0.15, 0.95, False).args[0]
    with pytest.raises(ValueError, match=f"step cache \\({kind}\\)"):
        sample(model, region.RegionSampler(region.RegionOptions()), prompts(1), prompts(2), *maps())


def test_a_cache_of_another_pack_is_refused_by_its_key(comfy):
    check = comfy.module("host.regions.denoiser").check_model_patches
    check({"transformer_options": {"easycache": None, "patches": {}}})
    with pytest.raises(ValueError, match=r"step cache \(tea_cache_state\)"):
        check({"transformer_options": {"tea_cache_state": object()}})


@pytest.mark.parametrize("masked", [False, True])
def test_the_largest_seed_works_with_every_sampler(comfy, patcher, prompts, region, sample, masked):
    names = comfy.node("AdaptiveSRRegionSampler").define_schema().inputs[0].options
    latent, noise = maps()
    mask = (torch.arange(12) < 6).float().expand(1, 1, 8, 12) if masked else None
    for name in names:
        sampler = region.RegionSampler(region.RegionOptions(64, 16, sampler=name))
        made = sample(
            patcher("eps"), sampler, prompts(1), prompts(2), latent, noise, mask=mask, seed=LARGEST_SEED, steps=2
        )
        assert bool(torch.isfinite(made).all()), name


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("back_end", ["proxies", "latent"])
def test_a_canvas_one_cell_wide_is_sampled_with_gains(comfy, patcher, prompts, region, sample, height, width, back_end):
    plans = comfy.module("host.gains.plan")
    chosen = next((entry for entry in plans.GainBackEnd if back_end in entry.value), None)
    assert chosen is not None
    gain = plans.make_plan(chosen.value, 0.005, "ladder", "psnr, sharpness", plans.GainLimits())
    sampler = region.RegionSampler(region.RegionOptions(64, 16, gain=gain))
    assert bool(torch.isfinite(sample(patcher("eps"), sampler, prompts(1), prompts(2), *maps(height, width))).all())


def test_a_prompt_that_is_not_known_is_a_sentence(comfy, patcher):
    with pytest.raises(ValueError, match="empty prompt is not known"):
        comfy.module("host.conditioning").empty_prompt(patcher("flow"))


def test_a_latent_of_one_frame_is_not_called_a_video(region):
    region.check_latent(torch.zeros(1, 16, 24, 32))
    with pytest.raises(ValueError, match="one frame") as error:
        region.check_latent(torch.zeros(1, 16, 1, 24, 32))
    assert "video" not in str(error.value)


def test_reference_latents_are_refused_with_advice_that_can_be_followed(comfy):
    from comfy.conds import CONDList

    entry = {"model_conds": {"ref_latents": CONDList([torch.zeros(1, 4, 16, 32)])}, "uuid": None}
    with pytest.raises(ValueError, match="cannot be cut into regions"):
        comfy.module("host.regions.conditions").CanvasConditions(
            {"positive": [entry]}, (1, 4, 16, 32), torch.device("cpu")
        )
