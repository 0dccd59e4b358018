"""Train Noise Predictor on the real host: what it writes, loads, refuses, and how it stops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivesr.models.judges.latent_lpips import LatentLPIPS
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FAST = {
    "preset": "own settings", "steps": 4, "batch_size": 2, "microbatch": 1, "lpips_weight": 0.0, "learning_rate": 1e-3, "warmup": 0,
    "adversarial_after": 2, "taus": "200, 80", "crop_size": 64, "size": "small", "precision": "float32", "image_folder": "",
}  # fmt: skip
LPIPS = "tiny_lpips.safetensors"


@pytest.fixture(scope="module")
def train(comfy, checkpoint, prompt):
    images = torch.rand(3, 80, 72, 3, generator=torch.Generator().manual_seed(0))

    def run(**inputs):
        given = {"model": checkpoint[0], "vae": checkpoint[1], "positive": prompt, "images": images}
        with torch.inference_mode():
            return comfy.node("AdaptiveSRTrainNoisePredictor").execute(**{**FAST, **given, **inputs}).args

    return run


@pytest.fixture(scope="module")
def output(comfy):
    import folder_paths

    return Path(folder_paths.get_output_directory())


@pytest.fixture(scope="module")
def first(train):
    return train(name="np_first")


def state_of(output, report):
    run = json.loads(report)["resume"]
    return load_file(output / "adaptivesr" / "training" / f"{run}.invsr-state.safetensors")


def test_what_it_saves_loads_and_upscales_from_its_own_start_steps(comfy, first, checkpoint, prompt, output):
    predictor, losses, samples, report = first
    report = json.loads(report)
    assert report["steps"] == 4 and report["taus"] == [200, 80]
    assert set(report["losses"]) == {"mse", "adversarial", "discriminator"}
    assert losses.shape[-1] == samples.shape[-1] == 3
    name = Path(report["file"]).name
    assert name == "np_first_00001_4_steps.safetensors"
    with safe_open(output / report["file"], "pt") as file:
        assert file.metadata()["taus"] == "200, 80"
    node = comfy.node("AdaptiveSRLoadNoisePredictor")
    assert name in node.INPUT_TYPES()["required"]["model_name"][1]["options"]
    again, info = node.execute(name).args
    assert again.starts == predictor.starts == (200, 80) and info.endswith("starts at 200, 80")
    left, right = (model.patcher.model.state_dict() for model in (predictor, again))
    assert all(torch.equal(left[key], right[key]) for key in left)

    def upscaled(taus):
        given = {"steps": 1, "taus": taus, "seed": 0, "patch_size": 32, "overlap": 8}
        first = (checkpoint[0], prompt, prompt, checkpoint[1], again, torch.rand(1, 32, 32, 3))
        with torch.inference_mode():
            return comfy.node("AdaptiveSRInvSRUpscale").execute(*first, **given).args

    image, said = upscaled("80")
    assert image.shape == (1, 128, 128, 3) and json.loads(said)["taus"] == [80]
    with pytest.raises(ValueError, match="starts at 100: expected one of 200, 80"):
        upscaled("100")


def test_the_graphs_own_model_stays(first, checkpoint, train):
    network = checkpoint[0].model.diffusion_model
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train(name="np_stays", steps=1)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert "forward" not in vars(next(network.input_blocks[1].children()))  # checkpointing is the copy's


def test_two_steps_and_two_more_equal_four_bit_for_bit(first, train, output):
    half = train(name="np_half", steps=2)[3]
    rest = train(name="np_half", steps=2, resume=json.loads(half)["resume"])[3]
    assert json.loads(rest)["started_from"] == "the run np_half_00001"
    whole, resumed = state_of(output, first[3]), state_of(output, rest)
    assert set(whole) == set(resumed) and all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_checkpointing_changes_no_bit(first, train, output):
    plain = train(name="np_plain", gradient_checkpointing=False)[3]
    whole, other = state_of(output, first[3]), state_of(output, plain)
    assert all(torch.equal(whole[key], other[key]) for key in whole)


def test_a_cancel_saves_the_state_and_the_run_goes_on_from_there(comfy, first, train, output, monkeypatch):
    import comfy.model_management as mm

    kind = comfy.module("training.invsr.run").InvSRRun
    step = kind.train_step

    def interrupting(run, generator):
        numbers = step(run, generator)
        if run.state.step == 3:
            mm.interrupt_current_processing(True)
        return numbers

    monkeypatch.setattr(kind, "train_step", interrupting)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="np_cut")
    monkeypatch.undo()
    assert not mm.in_training and not list((output / "adaptivesr" / "noise_predictor").glob("np_cut_*"))
    whole = state_of(output, first[3])
    resumed = state_of(output, train(name="np_cut", steps=1, resume="np_cut_00001")[3])
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_it_trains_on_from_a_predictor_with_latent_lpips_in_bfloat16(comfy, first, train):
    import folder_paths

    folder = Path(folder_paths.folder_names_and_paths["adaptivesr_latent_lpips"][0][0])
    folder.mkdir(parents=True, exist_ok=True)
    network, generator = LatentLPIPS(), torch.Generator().manual_seed(1)
    weights = {key: torch.rand(value.shape, generator=generator) - 0.4 for key, value in network.state_dict().items()}
    save_file({**weights, "scaling_layer.shift": torch.zeros(1, 3, 1, 1)}, folder / LPIPS)
    try:
        given = {
            "latent_lpips": LPIPS,
            "lpips_weight": 2.0,
            "precision": "bfloat16",
            "images": torch.rand(1, 64, 64, 3),  # one: CPUs without such arithmetic take seconds for each
            "steps": 1,
            "batch_size": 1,
            "taus": "200",
        }
        report = json.loads(train(name="np_on", noise_predictor=first[0], **given)[3])
    finally:
        (folder / LPIPS).unlink()
    assert report["started_from"] == "the given predictor" and "lpips" in report["losses"]
    assert all(np.isfinite(ends).all() for ends in report["losses"].values())


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"preset": "paper"}, r"vgg16_sdturbo_lpips\.pth.*or train without it"),
        ({"preset": "mine"}, "got preset = 'mine': expected one of the list"),
        ({"taus": "200, x"}, "Got the start steps"),
        ({"taus": "1001"}, "whole numbers of 1 to 1000"),
        ({"images": None}, "neither a folder nor images"),
        ({"name": "../evil"}, "letters, digits"),
        ({"positive": []}, "positive is empty"),
        ({"crop_size": 72}, "a multiple of 64"),
        ({"lpips_weight": 1.0, "latent_lpips": "nowhere.pth"}, "got latent_lpips = 'nowhere.pth': expected one of the list"),
    ],
)  # fmt: skip
def test_wrong_input_is_a_sentence(train, inputs, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        train(**inputs)


def test_models_of_other_kinds_are_refused(train, base):
    with pytest.raises(ValueError, match="InvSR got a MODEL with 'V_PREDICTION'"):
        train(model=base("SD20", "V_PREDICTION", 1024))


def test_a_published_file_keeps_the_published_start_steps(comfy, predictor):
    assert predictor.starts == (250, 200, 150, 100) and "starts" not in predictor.summary


def test_damaged_start_steps_in_a_file_are_a_sentence(comfy, folder, first, output):
    path = folder / "np_damaged.safetensors"
    save_file(load_file(output / json.loads(first[3])["file"]), path, metadata={"taus": "no numbers"})
    try:
        with pytest.raises(ValueError, match=r"'np_damaged\.safetensors', whose metadata is damaged"):
            comfy.node("AdaptiveSRLoadNoisePredictor").execute(path.name)
    finally:
        path.unlink()
