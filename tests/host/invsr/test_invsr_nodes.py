"""Super Resolution (InvSR) and InvSR Noise in the host: sizes, seeds, batches, limits, and what bad input gets."""

import pytest
import torch

ORDERS = ["latent regions", "pixel chop"]


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("mode", ORDERS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 33, 3), (2, 17, 45, 4), (1, 32, 32, 1)])
def test_any_image_comes_out_four_times_as_large(upscale, mode, shape):
    image, report = upscale(picture(*shape), mode=mode)
    assert image.shape == (shape[0], 4 * shape[1], 4 * shape[2], 4 if shape[3] == 4 else 3)
    assert image.min() >= 0 and image.max() <= 1 and torch.isfinite(image).all()
    assert report["predictor_rows"] == shape[0] * report["regions"] and report["model_calls"] >= 1


@pytest.mark.parametrize("mode", ORDERS)
def test_seeds_decide_and_batches_do_not(upscale, mode):
    images = picture(2, 34, 20, 3)
    both, _ = upscale(images, mode=mode, seed=4, patch_batch=1)
    many, report = upscale(images, mode=mode, seed=4, patch_batch=3)
    torch.testing.assert_close(many, both, atol=1e-4, rtol=0)
    assert report["predictor_calls"] < report["predictor_rows"]
    singles = [upscale(images[i : i + 1], mode=mode, seed=4)[0] for i in range(2)]
    torch.testing.assert_close(torch.cat(singles), both, atol=1e-4, rtol=0)
    again, _ = upscale(images, mode=mode, seed=4, patch_batch=1)
    assert torch.equal(again, both)
    other, _ = upscale(images, mode=mode, seed=5)
    assert float((other - both).abs().max()) > 0.1


@pytest.mark.parametrize("mode", ORDERS)
def test_the_map_of_the_page_is_the_report(upscale, mode):
    import json

    _, report = upscale(picture(2, 48, 80, 3), mode=mode, steps=2, patch_batch=2)
    told = json.loads(upscale.ui["adaptivesr_regions"][0])
    assert told["counts"] == [[2] * report["regions"]] * 2 and told["states"] == ["c" * report["regions"]] * 2
    assert (told["passed"], told["saved"], told["steps"]) == (1, 0, 2)
    assert told["report"]["model_calls"] == report["model_calls"] == told["calls"]


def test_both_orders_are_one_with_one_patch(upscale):
    image = picture(1, 32, 32, 3)
    regions, _ = upscale(image, steps=3, cfg=2.0)
    chopped, report = upscale(image, steps=3, cfg=2.0, mode="pixel chop")
    torch.testing.assert_close(chopped, regions, atol=1e-4, rtol=0)
    assert report["model_calls"] == 3 and report["taus"] == [200, 100, 50]


@pytest.mark.parametrize(
    ("inputs", "taus"), [({"steps": 7}, [250, 214, 178, 142, 107, 71, 35]), ({"steps": 7, "taus": "100"}, [100])]
)
def test_steps_follow_the_lists(upscale, inputs, taus):
    _, report = upscale(picture(1, 8, 8, 3), **inputs)
    assert report["taus"] == taus and report["model_calls"] == len(taus)


def test_strength_zero_adds_no_noise(upscale, noise_for):
    image = picture(1, 32, 32, 3)
    first, _ = upscale(image, strength=0.0, seed=1)
    second, _ = upscale(image, strength=0.0, seed=2)
    assert torch.equal(first, second)
    noise, _, latent = noise_for(image, {"samples": torch.zeros(1, 4, 16, 16)}, strength=0.0)
    assert not noise.generate_noise(latent).any()


@pytest.mark.parametrize("fix", ["wavelet", "ycbcr", "adain", "lab"])
def test_colours_come_from_the_unpadded_image(upscale, fix):
    image = picture(1, 9, 13, 3) * 0.2 + torch.tensor([0.6, 0.3, 0.1])
    plain, _ = upscale(image, seed=3)
    fixed, _ = upscale(image, seed=3, color_fix=fix)
    wanted = image.mean((0, 1, 2))
    assert (fixed.mean((0, 1, 2)) - wanted).abs().max() < (plain.mean((0, 1, 2)) - wanted).abs().max()


def test_noise_and_levels_are_what_a_sampler_wants(noise_for, checkpoint):
    latent = {"samples": torch.zeros(2, 4, 20, 18), "downscale_ratio_spacial": 8, "batch_index": [3, 4]}
    noise, sigmas, out = noise_for(picture(2, 40, 36, 3), latent, steps=5, seed=9)
    table = checkpoint[0].get_model_object("model_sampling")
    assert torch.equal(table.timestep(sigmas[:-1]), torch.tensor([249, 199, 149, 99, 49]))
    assert float(sigmas[-1]) == 0 and out["batch_index"] == [3, 4] and "downscale_ratio_spacial" not in out
    drawn = noise.generate_noise(out)
    assert noise.seed == 9 and drawn.shape == (2, 4, 20, 18) and drawn.dtype == torch.float32
    assert 0.5 < float(drawn.std()) < 2
    assert torch.equal(noise.generate_noise(out), drawn)


def test_one_image_serves_several_latents_and_halves_of_cells_do_not_matter(noise_for):
    image = picture(1, 33, 37, 3)
    for cells in ((16, 18), (17, 19)):
        noise, _, latent = noise_for(image, {"samples": torch.zeros(3, 4, *cells)})
        assert noise.generate_noise(latent).shape == (3, 4, *cells)


def test_a_latent_of_another_size_is_a_sentence_that_names_both(noise_for):
    with pytest.raises(ValueError, match=r"36 x 40 pixels and a latent of 40 x 40 cells: expected 18 x 20 cells"):
        noise_for(picture(1, 40, 36, 3), {"samples": torch.zeros(1, 4, 40, 40)})
    with pytest.raises(ValueError, match="2 LR images and 3 latents"):
        noise_for(picture(2, 8, 8, 3), {"samples": torch.zeros(3, 4, 4, 4)})


def test_the_noise_belongs_to_its_latent(noise_for):
    noise, _, _ = noise_for(picture(1, 8, 8, 3), {"samples": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(ValueError, match="sample the latent that 'InvSR Noise' gives"):
        noise.generate_noise({"samples": torch.zeros(1, 4, 4, 5)})


@pytest.mark.parametrize(
    ("kind", "prediction", "width", "words"),
    [
        ("SD15", "EPS", 768, "768"),
        ("SDXL", "EPS", 2048, "2048 channels"),
        ("SD20", "V_PREDICTION", 1024, "'V_PREDICTION' prediction"),
        ("SD3", "FLOW", 4096, "'CONST' prediction"),
    ],
)
def test_another_base_is_a_sentence(upscale, noise_for, base, kind, prediction, width, words):
    model = base(kind, prediction, width)
    with pytest.raises(ValueError, match=f"{words}.*load SD-Turbo"):
        upscale(picture(1, 8, 8, 3), model=model)
    with pytest.raises(ValueError, match="load SD-Turbo"):
        noise_for(picture(1, 8, 8, 3), {"samples": torch.zeros(1, 4, 4, 4)}, model=model)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"taus": "120, 60"}, "starts at 120"),
        ({"taus": "50, 100"}, "each below"),
        ({"taus": "fast"}, "whole numbers"),
        ({"steps": 0}, "1 to 250"),
        ({"patch_size": 100}, "multiple of 16"),
        ({"overlap": 17}, "half a patch"),
    ],
)
def test_settings_that_cannot_be_run_are_a_sentence(upscale, noise_for, inputs, words):
    with pytest.raises(ValueError, match=words):
        upscale(picture(1, 8, 8, 3), **inputs)
    with pytest.raises(ValueError, match=words):
        noise_for(picture(1, 8, 8, 3), {"samples": torch.zeros(1, 4, 4, 4)}, **inputs)


def test_broken_pixels_and_foreign_vaes_are_a_sentence(upscale, comfy):
    image = picture(1, 8, 8, 3)
    image[0, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        upscale(image)
    foreign = comfy.module("host.resshift.loading").load_one_step("embedded: one step").vae
    with pytest.raises(ValueError, match="connect the VAE of the same checkpoint"):
        upscale(picture(1, 8, 8, 3), vae=foreign)


def test_what_belongs_to_places_is_refused_where_it_would_be_displaced(upscale, prompt):
    masked = [[prompt[0][0], {**prompt[0][1], "mask": torch.ones(1, 64, 64)}]]
    for inputs in ({"mode": "pixel chop"}, {"image": picture(1, 31, 40, 3)}):
        with pytest.raises(ValueError, match=r"has mask, which belong to places"):
            upscale(inputs.pop("image", picture(1, 40, 40, 3)), positive=masked, **inputs)
    image, _ = upscale(picture(1, 40, 40, 3), positive=masked)
    assert image.shape == (1, 160, 160, 3)


@pytest.mark.parametrize("mode", ORDERS)
def test_cancel_stops_within_one_call_and_the_next_run_is_clean(upscale, checkpoint, mode):
    import comfy.model_management as mm

    image, calls = picture(1, 50, 20, 3), []
    expected, _ = upscale(image, mode=mode, patch_batch=1)

    def cancel(executor, *arguments, **options):
        calls.append(1)
        mm.interrupt_current_processing(True)
        return executor(*arguments, **options)

    model = checkpoint[0].clone()
    model.add_wrapper_with_key("apply_model", "test", cancel)
    with pytest.raises(mm.InterruptProcessingException):
        upscale(image, mode=mode, patch_batch=1, model=model)
    assert len(calls) == 1
    mm.interrupt_current_processing(False)
    again, _ = upscale(image, mode=mode, patch_batch=1)
    assert torch.equal(again, expected)


@pytest.mark.parametrize("mode", ORDERS)
def test_out_of_memory_halves_the_batch_and_says_so(upscale, checkpoint, mode):
    import comfy.model_management as mm

    image = picture(1, 50, 20, 3)
    expected, _ = upscale(image, mode=mode, patch_batch=1)

    def limited(executor, x, *arguments, **options):
        if len(x) > 1:
            raise mm.OOM_EXCEPTION("out of memory")
        return executor(x, *arguments, **options)

    model = checkpoint[0].clone()
    model.add_wrapper_with_key("apply_model", "test", limited)
    result, report = upscale(image, mode=mode, patch_batch=6, model=model)
    assert report["halvings"] >= 1
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
