"""Upscale is the other nodes in a row: what it composes, and what it refuses."""

import json

import pytest
import torch
from adaptivesr.tools.small_models.checkpoints import small_checkpoint
from adaptivesr.tools.small_models.tiny import TEACHER

ONE_STEP = {
    "scale": 4.0, "width": 0, "height": 0, "steps": 0, "seed": 0, "color_fix": "none", "tile": 256, "overlap": 32,
    "tile_batch": 0, "chain": "deterministic",
}  # fmt: skip
LIMITS = {
    "intervals": "1, 2, 3, 4", "warmup": 2, "patience": 2, "t_half": 500.0, "t_sat_max": 0.0, "min_share": 0.1, "max_share": 1.0,
    "tail_guard": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def vae(comfy):
    """The exact VAE of the small checkpoint: means of 8 x 8 pixels."""
    import comfy.sd

    prefix = "first_stage_model."
    weights = {key.removeprefix(prefix): v for key, v in small_checkpoint().items() if key.startswith(prefix)}
    return comfy.sd.VAE(sd=weights)


@pytest.fixture
def node(comfy):
    def run(name, *args, **inputs):
        with torch.inference_mode():
            return comfy.node(f"AdaptiveSR{name}").execute(*args, **inputs).args

    return run


@pytest.fixture
def upscale(node):
    def run(image, scale=4.0, preset="Fast", seed=0, **inputs):
        return node("AdaptiveUpscale", image, scale, preset, seed, **inputs)

    return run


@pytest.fixture(scope="module")
def load(comfy):
    return comfy.module("host.resshift.loading").load_one_step


def picture(*shape, seed=0):
    coarse = torch.rand(shape[0], shape[3], 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=shape[1:3], mode="bicubic").clamp(0, 1).movedim(1, -1)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 30, 3), (2, 17, 23, 3), (1, 9, 9, 4), (1, 9, 9, 1)])
def test_alone_any_image_comes_out_four_times_as_large(upscale, shape):
    image, report = upscale(picture(*shape))
    assert image.shape == (shape[0], 4 * shape[1], 4 * shape[2], 4 if shape[3] == 4 else 3)
    assert image.min() >= 0 and image.max() <= 1
    assert json.loads(report)["way"] == "one step"


@pytest.mark.parametrize(
    ("inputs", "size"), [({"scale": 2.0}, (22, 34)), ({"width": 50, "height": 20}, (20, 50)), ({"width": 34}, (22, 34))]
)
def test_the_target_is_met_exactly(upscale, inputs, size):
    assert tuple(upscale(picture(1, 11, 17, 3), **inputs)[0].shape[1:3]) == size


@pytest.mark.parametrize(("preset", "overlap", "color"), [("Fast", 16, "none"), ("Balanced", 32, "wavelet")])
def test_alone_it_is_the_one_step_node_with_the_embedded_weights(upscale, node, load, preset, overlap, color):
    image = picture(1, 20, 24, 3)
    one_step = load("embedded: one step")
    expected = node("OneStepDistilledSR", one_step, image, **{**ONE_STEP, "overlap": overlap, "color_fix": color})[0]
    assert torch.equal(upscale(image, preset=preset)[0], expected)
    assert torch.equal(upscale(image, preset=preset, one_step_sr=one_step)[0], expected)


def test_best_averages_eight_views_and_so_does_not_know_up_from_down(upscale):
    image = picture(1, 12, 16, 3)
    result, report = upscale(image, preset="Best")
    assert (json.loads(report)["network_calls"], json.loads(report)["orientations"]) == (8, 8)
    flipped, _ = upscale(image.flip(1), preset="Best")
    torch.testing.assert_close(flipped.flip(1), result, atol=1e-4, rtol=0)
    turned, _ = upscale(image.transpose(1, 2), preset="Best")
    torch.testing.assert_close(turned.transpose(1, 2), result, atol=1e-4, rtol=0)
    once, _ = upscale(image)
    assert (upscale(image.flip(1))[0].flip(1) - once).abs().max() > 1e-3  # one view does


def test_the_eight_views_are_different_and_come_back(comfy):
    module = comfy.module("host.adaptive_upscale")
    image = torch.arange(6.0).view(1, 1, 2, 3)
    views = [module.turned(image, index) for index in range(8)]
    assert len({(*view.shape, *view.flatten().tolist()) for view in views}) == 8
    assert all(torch.equal(module.turned_back(view, index), image) for index, view in enumerate(views))


@pytest.mark.parametrize(("preset", "steps"), [("Fast", 1), ("Balanced", 4), ("Best", 15)])
def test_a_teacher_makes_the_presets_steps(upscale, load, preset, steps):
    _, report = upscale(picture(1, 8, 8, 3), preset=preset, one_step_sr=load(TEACHER))
    assert json.loads(report)["steps"] == steps


@pytest.fixture
def connected(patcher, vae, prompts):
    return {"model": patcher("eps"), "vae": vae, "positive": prompts(0), "negative": prompts(1)}


def test_with_a_model_it_is_the_other_nodes_in_a_row(upscale, node, load, connected):
    image = picture(1, 16, 24, 3)
    result, report = upscale(image, preset="Balanced", seed=3, tile_size=64, **connected)
    large = node("OneStepDistilledSR", load("embedded: one step"), image, **{**ONE_STEP, "seed": 3})[0]
    latent = {"samples": connected["vae"].encode(large)}
    gain = node("MMLEGainEstimator", "proxies", 0.005, "ladder", "", **LIMITS)[0]
    sampled, _, region = node(
        "TiledRegionSampler", connected["model"], connected["positive"], connected["negative"], latent, 3, 20, 5.0, "euler", "normal",
        0.3, 64, 32, "consensus", gain=gain,
    )  # fmt: skip
    with torch.inference_mode():
        decoded = connected["vae"].decode(sampled["samples"])
    expected = node("WaveletColorFix", decoded, image, "wavelet")[0]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    report, region = json.loads(report), json.loads(region)
    assert report["way"] == "regions" and report["output"] == "96x64"
    assert all(report[name] == region[name] for name in ("tiles", "region_calls", "steps_per_region", "classes", "cfg"))
    assert report["enlarged"]["network_calls"] == 1


@pytest.mark.parametrize("with_model", [True, False])
def test_the_page_is_shown_the_regions_of_the_model_or_the_tiles(comfy, connected, with_model):
    image = torch.rand(1, 24, 40, 3)
    with torch.inference_mode():
        done = comfy.node("AdaptiveSRAdaptiveUpscale").execute(
            image, scale=4.0, preset="Fast", seed=0, **(connected if with_model else {})
        )
    shown, report = json.loads(done.ui["adaptivesr_regions"][0]), json.loads(done.args[1])
    assert shown["tiles"] == (report["tiles"] if with_model else 1)
    assert shown["region_calls"] == (report["region_calls"] if with_model else report["network_calls"])
    assert done.ui["adaptivesr_line"][0].startswith("Fast, regions" if with_model else "Fast, one step")


def test_region_report_reads_its_report(upscale, node, connected):
    image, report = upscale(picture(1, 16, 24, 3), tile_size=64, **connected)
    sheet, summary = node("RegionReport", report, image, 0.5)
    assert sheet.shape[0] == 1 and "regions" in summary


def test_with_a_model_a_batch_equals_single_images_of_odd_size_with_transparency(upscale, connected):
    images = picture(2, 9, 13, 4)
    batch, _ = upscale(images, tile_size=64, **connected)
    assert batch.shape == (2, 36, 52, 4)
    singles = [upscale(images[i : i + 1], tile_size=64, **connected)[0] for i in range(2)]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-4, rtol=0)


def test_numbers_of_the_node_win_over_the_preset(upscale, connected):
    _, report = upscale(picture(1, 8, 8, 3), tile_size=64, denoise=0.5, cfg=2.0, **connected)
    report = json.loads(report)
    assert (report["denoise"], report["cfg"], report["tile_px"], report["steps"]) == (0.5, 2.0, 64, 10)


def test_without_prompts_there_is_nothing_to_guide(upscale, connected):
    connected = {name: connected[name] for name in ("model", "vae")}
    _, report = upscale(picture(1, 8, 8, 3), tile_size=64, **connected)
    assert json.loads(report)["cfg"] == 1.0


def test_large_pictures_go_through_the_vae_in_tiles(comfy, vae, monkeypatch):
    module = comfy.module("host.vae")
    image = picture(1, 64, 544, 3).movedim(-1, 1)
    with torch.inference_mode():
        whole = module.encode(vae, image), module.decode(vae, module.encode(vae, image))
        monkeypatch.setattr(module, "UNTILED_PX", 64)
        monkeypatch.setattr(module, "TILE_PX", 256)
        encoded, decoded = [], []
        for name, seen in (("encode", encoded), ("decode", decoded)):
            whole_call = getattr(vae, name)
            monkeypatch.setattr(vae, name, lambda x, call=whole_call, seen=seen: seen.append(tuple(x.shape)) or call(x))
        tiled = module.encode(vae, image), module.decode(vae, whole[0])
    assert encoded == [(1, 64, 232, 3)] * 4 and decoded == [(1, 4, 8, 29)] * 4, "each tile once"
    assert tiled[1].shape == image.shape
    for a, b in zip(whole, tiled):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=0)  # this VAE looks a few pixels far


def test_what_does_not_go_together_is_a_sentence(upscale, load, patcher, connected):
    image = picture(1, 8, 8, 3)
    with pytest.raises(ValueError, match="Got a MODEL without a VAE"):
        upscale(image, model=connected["model"])
    with pytest.raises(ValueError, match="Got vae without a MODEL"):
        upscale(image, vae=connected["vae"])
    with pytest.raises(ValueError, match="Got positive and negative without a MODEL"):
        upscale(image, positive=connected["positive"], negative=connected["negative"])
    with pytest.raises(ValueError, match=r"Got the MODEL of Load One-Step SR.*one_step_sr"):
        upscale(image, model=load("embedded: one step").patcher, vae=connected["vae"])
    with pytest.raises(ValueError, match="no prompt: expected 'positive'"):
        upscale(image, model=patcher("flow"), vae=connected["vae"])


def test_an_empty_prompt_fits_sdxl(upscale, patcher, connected):
    image, _ = upscale(picture(1, 8, 8, 3), model=patcher("sdxl"), vae=connected["vae"], tile_size=64)
    assert image.shape == (1, 32, 32, 3)
