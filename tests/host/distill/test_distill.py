"""Distill One-Step SR on the real host: what it writes, loads, refuses, and how it stops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

FAST = {
    "steps": 2, "batch_size": 2, "learning_rate": 1e-3, "crop_size": 64, "degradation": "bicubic", "teacher_steps": 2,
    "warmup": 0, "samples_every": 0, "save_every": 0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((100, 120), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def train(comfy, teachers, folder):
    def run(family="pixel", **inputs):
        given = {"teacher": teachers[family], "method": "TAD-SR", "image_folder": str(folder), **FAST, **inputs}
        with torch.inference_mode():
            return comfy.node("AdaptiveSRDistillOneStepSR").execute(**given).args

    return run


def upscaled(comfy, sr, steps=0):
    image = torch.rand(1, 24, 20, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        node = comfy.node("AdaptiveSROneStepDistilledSR")
        picture, report = node.execute(sr, image, 4.0, 0, 0, steps, 0, "none", 64, 16, 0, "deterministic").args
    return picture, json.loads(report)


def weights(sr):
    return {key: value.clone() for key, value in sr.patcher.model.diffusion_model.network.state_dict().items()}


@pytest.mark.parametrize(("family", "autoencoder"), [("pixel", "auto"), ("unet", "small_vq_f4.safetensors")])
def test_it_trains_saves_and_what_it_saves_loads_and_upscales(comfy, train, teachers, base, family, autoencoder):
    before = weights(teachers[family])
    student, losses, samples, report = train(family, name=f"first_{family}", metrics="psnr ssim")
    report = json.loads(report)
    assert losses.shape[-1] == samples.shape[-1] == 3 and samples.shape[1] > 4 * 64
    assert set(report["losses"]) == {"discriminator", "distill", "adversarial", "score_gradient"}
    steps = teachers[family].schedule.num_steps
    assert set(report["quality"]) == {f"teacher, {steps} steps", "student, 1 step"}
    assert all(
        np.isfinite(list(numbers.values())).all() and set(numbers) == {"psnr", "ssim"}
        for numbers in report["quality"].values()
    )
    assert all(torch.equal(value, weights(teachers[family])[key]) for key, value in before.items())
    assert student.one_step_only and student.schedule.num_steps == steps
    name = Path(report["file"]).name
    assert (
        name == f"tad_s{steps}_first_{family}_00001_2_steps.safetensors"
        and (base / "output" / report["file"]).is_file()
    )
    options = comfy.node("AdaptiveSRLoadOneStepSR").INPUT_TYPES()["required"]["model_name"][1]["options"]
    assert name in options
    with torch.inference_mode():
        again = comfy.node("AdaptiveSRLoadOneStepSR").execute(name, autoencoder, "auto").args[0]
    assert again.one_step_only and again.schedule.sqrt_etas[-1] == student.schedule.sqrt_etas[-1]
    left, right = weights(student), weights(again)
    assert all(torch.equal(value, right[key]) for key, value in left.items())
    pictures = [upscaled(comfy, sr) for sr in (student, again)]
    assert torch.equal(pictures[0][0], pictures[1][0]) and pictures[0][0].shape == (1, 96, 80, 3)
    assert pictures[0][1]["steps"] == 1
    assert not torch.equal(pictures[0][0], upscaled(comfy, teachers[family], 1)[0])


def test_the_papers_settings_overrule_the_inputs_and_a_resumed_run_keeps_its_steps(comfy, teachers):
    data = comfy.module("host.training.distill_data")
    inputs = {**FAST, "settings": "paper", "score_levels": 7, "score_weight": 5.0}
    teacher = teachers["unet"]
    settings, options = data.settings_of("TAD-SR", teacher, inputs), data.options_of(teacher, 2, inputs)
    assert (settings.batch, settings.score_weight, settings.score_levels, settings.warmup) == (8, 1.0, 3, 5000)
    assert (options.crop, options.steps, options.degradation) == (256, 30_000, "tad_sr")
    assert data.options_of(teacher, 2, {**inputs, "resume": "a_00001"}).steps == 2
    own = data.settings_of("TAD-SR", teachers["unet"], {**inputs, "settings": "own settings"})
    assert (own.batch, own.score_weight, own.score_levels) == (2, 5.0, 7)
    with pytest.raises(ValueError, match="Got the settings 'mine'"):
        data.settings_of("TAD-SR", teachers["unet"], {**inputs, "settings": "mine"})


def state_of(base, report):
    from safetensors.torch import load_file

    return load_file(
        base / "output" / "adaptivesr" / "training" / f"{json.loads(report)['resume']}.distill.safetensors"
    )


@pytest.mark.parametrize("family", ["pixel", "unet"])
def test_two_steps_and_two_more_equal_four_bit_for_bit(train, base, family):
    whole = state_of(base, train(family, name=f"whole_{family}", steps=4)[3])
    half = json.loads(train(family, name=f"half_{family}")[3])
    rest = train(family, name=f"half_{family}", resume=half["resume"])[3]
    assert json.loads(rest)["steps"] == 4 and json.loads(rest)["started_from"] == f"the run {half['resume']}"
    resumed = state_of(base, rest)
    assert set(whole) == set(resumed) and all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert any(key.endswith("weight_u") for key in whole) and any(key.startswith("optimizer.1.") for key in whole)


def test_a_cancel_saves_the_state_and_the_run_goes_on_from_there(comfy, train, base, monkeypatch):
    import comfy.model_management as mm

    whole = state_of(base, train(name="uncut", steps=3)[3])
    kind = comfy.module("training.tad_sr.distillation").DistillRun
    step = kind.train_step

    def interrupting(run, generator):
        numbers = step(run, generator)
        if run.state.step == 2:
            mm.interrupt_current_processing(True)
        return numbers

    monkeypatch.setattr(kind, "train_step", interrupting)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="cut", steps=3)
    monkeypatch.undo()
    assert not mm.in_training
    assert not list((base / "output" / "adaptivesr" / "one_step").glob("*_cut_00001*"))
    resumed = state_of(base, train(name="cut", steps=1, resume="cut_00001")[3])
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("method", ["distillation", "SinSR", "SDS + plain discriminator"])
def test_other_methods(train, method):
    student, _, _, report = train(method=method, name="other", metrics="")
    assert student.one_step_only and json.loads(report)["steps"] == 2


def test_a_teacher_is_trained_on_and_stays_one(comfy, train):
    for family in ("pixel", "unet"):
        teacher, _, _, report = train(family, method="ResShift teacher", name=f"zero_{family}", metrics="psnr")
        report = json.loads(report)
        assert not teacher.one_step_only and list(report["losses"]) == ["resshift"]
        assert set(report["quality"]) == {"before", "after"} and "/resshift_s" in report["file"]
        assert upscaled(comfy, teacher, 3)[1]["steps"] == 3


def test_student_start_images_generated_pictures_samples_and_microbatches(train, teachers, base):
    images = torch.rand(2, 70, 80, 3)
    report = json.loads(
        train(image_folder="", images=images, test_images=images[:1], student=teachers["student"], microbatch=1, samples_every=1,
              save_every=1, energy_weight=0.01, fidelity_weight=0.1, whole_pictures=True, name="many")[3]
    )  # fmt: skip
    assert report["started_from"] == "the given student" and "energy" in report["losses"]
    training = base / "output" / "adaptivesr" / "training"
    assert len(list(training.glob("many_00001.distill.000000?.png"))) == 2
    report = json.loads(train(image_folder="", generated_pictures=1, name="made", metrics="")[3])
    assert report["quality"] == {"student, 1 step": {}, "teacher, 15 steps": {}}
    assert set(report["computed_memory_gb"]) == {"fixed", "per_image"}


def test_numbers_that_need_weights_are_left_out_by_name(train, monkeypatch, comfy):
    import pyiqa

    create = pyiqa.create_metric

    def offline(name, **options):
        if name == "lpips":
            raise OSError("no network")
        return create(name, **options)

    monkeypatch.setattr(pyiqa, "create_metric", offline)
    report = json.loads(train(name="left", metrics="psnr lpips")[3])
    assert report["metrics_without_weights"] == ["lpips"]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"image_folder": ""}, "0 sources of pictures: expected one"),
        ({"generated_pictures": 3}, "2 sources of pictures"),
        ({"image_folder": "nowhere"}, "is no folder"),
        ({"image_folder": "/nowhere"}, "expected one below ComfyUI"),
        ({"name": "../evil"}, "letters, digits"),
        ({"degradation": "acid"}, "degradation = 'acid': expected one of"),
        ({"family": "student"}, "knows one step only.*expected a multi-step model"),
        ({"family": "unet", "crop_size": 72}, "crops of 72 pixels: expected a multiple of 32"),
        ({"family": "unet", "student": "pixel"}, "another network than the teacher's"),
        ({"family": "unet", "method": "ResShift teacher", "name": "tad"}, "without 'tad' and 'sinsr'"),
        ({"teacher": object()}, "teacher = .object.: expected ADAPTIVESR_ONE_STEP_SR"),
        ({"metrics": "psnr beauty"}, "metrics beauty: expected names of pyiqa"),
        ({"teacher_steps": 1}, "chain of 2 steps or more"),
        ({"distill_weight": 0.0, "method": "distillation"}, "not all 0"),
    ],
)
def test_wrong_input_is_a_sentence(train, teachers, inputs, sentence):
    if isinstance(inputs.get("student"), str):
        inputs = {**inputs, "student": teachers[inputs["student"]]}
    with pytest.raises(ValueError, match=sentence):
        train(**inputs)


def test_a_state_of_another_run_is_refused(train):
    name = json.loads(train(name="own")[3])["resume"]
    with pytest.raises(ValueError, match="another recipe"):
        train(resume=name, learning_rate=2e-3)
