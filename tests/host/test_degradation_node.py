"""Real-World Degradation inside the host."""

import json

import pytest
import torch


@pytest.fixture
def degrade(comfy):
    def run(image, preset="real-esrgan", scale=4, seed=0):
        with torch.inference_mode():
            return comfy.node("AdaptiveSRRealWorldDegradation").execute(image, preset, scale, seed).args

    return run


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "preset", ["real-esrgan", "stablesr", "tad_sr", "invsr", "adadiffsr", "tasr", "mild", "bicubic"]
)
def test_every_image_becomes_four_times_smaller_and_says_how(degrade, preset):
    image, text, reference = degrade(picture(2, 40, 56, 3), preset)
    assert image.shape == (2, 10, 14, 3) and reference.shape == (2, 40, 56, 3)
    assert image.min() >= 0 and image.max() <= 1
    report = json.loads(text)
    assert (report["preset"], report["output"]) == (preset, "14x10")
    assert len(report["images"]) == 2 and all(entry["steps"] for entry in report["images"])


def test_a_batch_is_its_images_one_by_one(degrade):
    images = picture(3, 24, 24, 3)
    batch, text, _ = degrade(images, seed=5)
    singles = [degrade(images[i : i + 1], seed=5 + i) for i in range(3)]
    assert torch.equal(batch, torch.cat([single[0] for single in singles]))
    assert json.loads(text)["images"] == [json.loads(single[1])["images"][0] for single in singles]


def test_the_same_seed_gives_the_same_picture_and_another_one_another(degrade):
    image = picture(1, 24, 24, 3)
    assert torch.equal(degrade(image, seed=2)[0], degrade(image, seed=2)[0])
    assert not torch.equal(degrade(image, seed=2)[0], degrade(image, seed=3)[0])


@pytest.mark.parametrize("shape", [(1, 4, 4, 3), (1, 5, 31, 3), (1, 23, 17, 3), (2, 9, 9, 4), (1, 9, 9, 1)])
def test_any_size_and_kind_of_image(degrade, shape):
    image, _, reference = degrade(picture(*shape))
    channels = 4 if shape[3] == 4 else 3
    small = shape[1] // 4, shape[2] // 4
    assert image.shape == (shape[0], *small, channels)
    assert reference.shape == (shape[0], 4 * small[0], 4 * small[1], channels)
    cropped = picture(*shape)[:, : 4 * small[0], : 4 * small[1]]
    assert torch.equal(reference, cropped.expand(-1, -1, -1, channels))


def test_transparency_is_reduced_and_does_not_touch_the_colours(degrade):
    image = picture(1, 24, 24, 4)
    image[..., 3] = 0.25
    with_alpha, without = degrade(image)[0], degrade(image[..., :3])[0]
    assert torch.equal(with_alpha[..., :3], without)
    torch.testing.assert_close(with_alpha[..., 3], torch.full((1, 6, 6), 0.25))


def test_a_picture_smaller_than_the_scale_is_refused(degrade):
    with pytest.raises(ValueError, match="picture of 9x3 pixels to be reduced by 4: expected at least 4x4"):
        degrade(picture(1, 3, 9, 3))


def test_pixels_that_are_not_finite_are_refused(degrade):
    image = picture(1, 8, 8, 3)
    image[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        degrade(image)


def test_the_line_under_the_node_names_every_step(comfy, degrade):
    module = comfy.module("host.degrade")
    for preset in comfy.module("imaging.degradation.presets").PRESETS:
        report = json.loads(degrade(picture(2, 16, 16, 3), preset, seed=4)[1])
        line = module.describe(report)
        assert line.startswith(f"{preset} (image 1 of 2): ")
        assert len(line.split(",")) == len(report["images"][0]["steps"])
