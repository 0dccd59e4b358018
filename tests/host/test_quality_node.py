"""Image Quality inside the host: numbers, bars, and what cannot be measured."""

import json
import sys

import pytest
import torch

BEST = torch.tensor((80, 190, 130)) / 255
BAR = torch.tensor((70, 130, 180)) / 255


@pytest.fixture
def measure(comfy):
    def run(image, metrics="psnr, nlpd", reference=None, crop=0, luma=True, labels="", compare=None):
        with torch.inference_mode():
            node = comfy.node("AdaptiveSRImageQuality")
            return node.execute(image, metrics, crop, luma, labels, reference, compare).args

    return run


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pixels(sheet, color):
    """How many pixels of a sheet (1, H, W, 3) have a colour."""
    return int(((sheet[0] - color).abs().amax(-1) < 1e-3).sum())


def test_numbers_and_their_mean_are_reported(measure):
    truth = picture(1, 32, 40, 3)
    images = torch.cat([truth + 0.1, truth + 0.2])  # clamped where the picture is measured
    text, score, _ = measure(images.clamp(0, 1), reference=truth)
    report = json.loads(text)
    first, second = report["metrics"]["psnr"]["values"]
    assert first > second and report["metrics"]["psnr"]["better"] == "higher"
    assert report["metrics"]["nlpd"]["better"] == "lower"
    assert score == pytest.approx((first + second) / 2, abs=1e-4)
    assert report["score"] == {"metric": "psnr", "mean": pytest.approx(score, abs=1e-4)}
    assert report["left_out"] == {} and report["labels"] == ["1", "2"]


def test_a_batch_is_its_images_one_by_one(measure):
    images, truth = picture(3, 32, 32, 3), picture(3, 32, 32, 3, seed=1)
    batch = json.loads(measure(images, reference=truth)[0])["metrics"]
    for i in range(3):
        single = json.loads(measure(images[i : i + 1], reference=truth[i : i + 1])[0])["metrics"]
        assert all(batch[name]["values"][i] == single[name]["values"][0] for name in batch)


def test_other_pictures_stand_beside_and_do_not_count_in_the_score(measure):
    images, truth, other = picture(2, 32, 32, 3), picture(1, 32, 32, 3, seed=1), picture(1, 32, 32, 3, seed=2)
    text, score, sheet = measure(images, reference=truth, compare=other)
    alone, expected, smaller = measure(images, reference=truth)
    report, beside = json.loads(text), json.loads(measure(other, reference=truth)[0])
    assert score == expected and sheet.shape[1] > smaller.shape[1]
    assert report["labels"] == ["1", "2", "compare"]
    for name, values in json.loads(alone)["metrics"].items():
        assert report["metrics"][name] == {**values, "compared": beside["metrics"][name]["values"]}
    assert json.loads(measure(other, reference=truth, compare=other)[0])["labels"] == ["image", "compare"]


def test_without_a_reference_those_that_compare_are_left_out_and_named(measure):
    text, score, _ = measure(picture(1, 48, 48, 3), "psnr, ssim, piqe")
    report = json.loads(text)
    assert [*report["metrics"]] == ["piqe"] and score == pytest.approx(report["metrics"]["piqe"]["mean"], abs=1e-4)
    assert report["left_out"] == dict.fromkeys(("psnr", "ssim"), "compares with a reference, and none is connected")


def test_what_a_picture_is_too_small_for_is_left_out_and_named(measure):
    text, _, _ = measure(picture(1, 8, 8, 3), "ssim, psnr", reference=picture(1, 8, 8, 3, seed=1))
    report = json.loads(text)
    assert [*report["metrics"]] == ["psnr"]
    assert report["left_out"]["ssim"].startswith("cannot measure this picture (")


def test_weights_that_cannot_be_had_are_left_out_and_named(measure, monkeypatch):
    import pyiqa

    create = pyiqa.create_metric

    def offline(name, **options):
        if name in ("lpips", "musiq"):
            raise ConnectionError("no network")
        return create(name, **options)

    monkeypatch.setattr(pyiqa, "create_metric", offline)
    image, truth = picture(1, 16, 16, 3), picture(1, 16, 16, 3, seed=1)
    report = json.loads(measure(image, "lpips, psnr", reference=truth)[0])
    assert report["score"]["metric"] == "psnr" and "could not be had" in report["left_out"]["lpips"]
    with pytest.raises(
        ValueError, match=r"No metric could be computed: lpips its weights.*without weights there are psnr"
    ):
        measure(image, "lpips, musiq", reference=truth)


def test_a_value_that_is_not_finite_is_null_and_an_error_where_it_is_all(measure):
    image, truth = picture(1, 1, 1, 3), picture(1, 1, 1, 3, seed=1)
    text, score, sheet = measure(image, "fsim, psnr", reference=truth)
    report = json.loads(text)
    assert report["metrics"]["fsim"] == {"better": "higher", "mean": None, "values": [None]}
    assert report["score"]["metric"] == "psnr" and score > 0 and torch.isfinite(sheet).all()
    with pytest.raises(ValueError, match="fsim gave no finite number"):
        measure(image, "fsim", reference=truth)


def test_the_border_does_not_count(measure):
    truth = picture(1, 24, 24, 3)
    image = truth.clone()
    image[:, :4] = 1 - image[:, :4]
    image[:, 10, 10] = 1 - image[:, 10, 10]
    expected = measure(image[:, 4:-4, 4:-4], "psnr", reference=truth[:, 4:-4, 4:-4])[1]
    assert measure(image, "psnr", reference=truth, crop=4)[1] == pytest.approx(expected)
    assert measure(image, "psnr", reference=truth)[1] < expected - 5


def test_transparency_and_grey_do_not_matter(measure):
    image, truth = picture(1, 16, 16, 4), picture(1, 16, 16, 1)
    expected = measure(image[..., :3], "psnr", reference=truth.expand(-1, -1, -1, 3))[1]
    assert measure(image, "psnr", reference=truth)[1] == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"reference": picture(1, 16, 20, 3)}, "picture has 16x16 pixels, the reference 20x16: expected equal sizes"),
        ({"reference": picture(3, 16, 16, 3)}, "2 images and 3 references"),
        ({"compare": picture(1, 16, 20, 3)}, "the picture in 'compare' 20x16: expected equal sizes"),
        ({"crop": 8}, "crop_border 8 for a picture of 16x16"),
        ({"labels": "a, b, c", "reference": picture(1, 16, 16, 3)}, "3 labels for 2 images"),
        ({"metrics": "psnr"}, "psnr compares with a reference, and none is connected"),
        ({"metrics": "psnrx"}, "did you mean psnr"),
        ({"metrics": ""}, "Got no metric"),
    ],
)
def test_bad_input_is_a_sentence(measure, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure(picture(2, 16, 16, 3), **arguments)


def test_a_missing_pyiqa_is_a_sentence(measure, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError, match="run 'pip install pyiqa'"):
        measure(picture(1, 16, 16, 3))


def test_bars_are_longer_for_greater_values_and_the_best_is_green(measure):
    truth = torch.full((1, 32, 32, 3), 0.2)
    _, _, one = measure(truth + 0.1, "psnr", reference=truth)
    assert one.shape[0] == 1 and one.shape[2:] == (768, 3)
    assert pixels(one, BEST) == 0 and pixels(one, BAR) > 1000
    _, _, two = measure(torch.cat([truth + 0.1, truth + 0.4]), "psnr", reference=truth, labels="near, far")
    assert pixels(two, BEST) > pixels(two, BAR) > 500  # 20 dB is best, 8 dB is not


def test_many_images_have_three_bars_and_missing_metrics_a_line(measure):
    few, many = (measure(picture(n, 8, 8, 3), "psnr", reference=picture(1, 8, 8, 3, seed=1))[2] for n in (3, 40))
    assert few.shape == many.shape
    with_note = measure(picture(3, 8, 8, 3), "psnr, ssim", reference=picture(1, 8, 8, 3, seed=1))[2]
    assert with_note.shape[1] > few.shape[1]
