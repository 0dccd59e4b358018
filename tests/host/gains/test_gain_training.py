"""Train MMLE and Train PFJ on the real host: what they write, load and refuse, how they stop and go on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

EMBEDDED = "embedded: teacher, 15 steps"
FAST = {
    "steps": 2, "batch_size": 4, "learning_rate": 1e-3, "size": "small", "crop_size": 64, "calls": 5, "degradation": "mild",
    "precision": "float32",
}  # fmt: skip
MMLE = {**FAST, "trajectories": 8, "metrics": "psnr, gmsd, sharpness", "schedule": 10, "t_half": 800.0}


@pytest.fixture(scope="module")
def sr(comfy):
    with torch.inference_mode():
        return comfy.module("host.resshift.loading").load_one_step(EMBEDDED)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((90, 100), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def train(comfy, sr, pictures):
    def run(node, **inputs):
        given = {"model": sr.patcher, "vae": sr.vae, "image_folder": str(pictures)}
        given |= MMLE if node == "TrainMMLE" else {**FAST, "batch_size": 2}
        with torch.inference_mode():
            return comfy.node(f"AdaptiveSR{node}").execute(**{**given, **inputs}).args

    return run


@pytest.fixture(scope="module")
def output():
    import folder_paths

    return Path(folder_paths.get_output_directory())


def part(models, prefix):
    state = models.network.state_dict()
    return {key: value.clone() for key, value in state.items() if key.startswith(prefix)}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_controlnet_is_refused_and_not_dropped(train):
    prompt = [[torch.zeros(1, 77, 768), {"control": object()}]]
    with pytest.raises(ValueError, match="positive carries a ControlNet: expected text alone"):
        train("TrainMMLE", name="refused", positive=prompt)


def test_both_train_save_and_load(comfy, train, sr, output):
    before = {key: value.clone() for key, value in sr.patcher.model.diffusion_model.state_dict().items()}
    models, losses, report = train("TrainMMLE", name="both")
    report = json.loads(report)
    assert losses.ndim == 4 and report["steps"] == 2 and set(report["losses"]) == {"loss", "psnr", "gmsd", "sharpness"}
    assert report["held_out"]["pairs"] == 4 + 3 + 2 + 1 and report["left_out"] == []
    assert models.metrics == ("psnr", "gmsd", "sharpness") and models.config.pfj is None
    assert models.info.t_half == 800 and all(m.scale > 0 and m.low < m.high for m in models.info.metrics)
    models.check_base(sr.patcher)

    injected, losses, report = train("TrainPFJ", name="both", gain_models=models)
    report = json.loads(report)
    assert len(report["error_with_and_without"]) == 2 and set(report["losses"]) == {"loss", "x0", "l1", "moved"}
    assert equal(part(injected, "mmle."), part(models, "mmle.")) and injected.config.pfj.latent_channels == 3
    assert any(value.any() for key, value in part(injected, "pfj.").items() if key.startswith("pfj.out."))
    name = Path(report["file"]).name
    assert (output / report["file"]).is_file()
    loaded = comfy.module("host.gains.models").load_gain_models(name)
    assert equal(loaded.network.state_dict(), injected.network.state_dict()) and loaded.info == models.info
    after = sr.patcher.model.diffusion_model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # the graph's own model is as it was


@pytest.mark.parametrize("node", ["TrainMMLE", "TrainPFJ"])
def test_two_and_two_steps_are_four(node, train, output):
    more = {"gain_models": train("TrainMMLE", name="base", steps=1)[0]} if node == "TrainPFJ" else {}
    whole = train(node, name="whole", steps=4, **more)[0]
    first = json.loads(train(node, name="half", **more)[2])
    second, _, report = train(node, name="half", resume=first["resume"], **more)
    assert json.loads(report)["steps"] == 4
    assert equal(second.network.state_dict(), whole.network.state_dict())
    ending = ".mmle-state.safetensors" if node == "TrainMMLE" else ".pfj-state.safetensors"
    assert (output / "adaptivesr" / "training" / f"{first['resume']}{ending}").is_file()
    with pytest.raises(ValueError, match="another recipe"):
        train(node, resume=first["resume"], learning_rate=2e-3, **more)


def test_a_cancel_keeps_the_state_and_the_trajectories(comfy, train, output):
    from comfy import model_management as mm

    def cancelled_in(module, name):
        function = getattr(module, name)

        def and_cancel(*args):
            result = function(*args)
            mm.interrupt_current_processing(True)
            return result

        setattr(module, name, and_cancel)
        try:
            with pytest.raises(mm.InterruptProcessingException):
                train("TrainMMLE", name="cancelled", seed=77, trajectories=16)
        finally:
            setattr(module, name, function)
        return set((output / "adaptivesr" / "training" / "trajectories").glob("*/*.safetensors"))

    before = set((output / "adaptivesr" / "training" / "trajectories").glob("*/*.safetensors"))
    first = cancelled_in(comfy.module("training.gains.trajectories"), "_make_shard")
    assert len(first - before) == 1 and not list((output / "adaptivesr").rglob("cancelled_*"))
    second = cancelled_in(comfy.module("training.gains.mmle").MmleRun, "train_step")
    assert len(second - first) == 1  # the other shard: the first was kept
    report = json.loads(
        train("TrainMMLE", name="cancelled", seed=77, trajectories=16, steps=1, resume="cancelled_00001")[2]
    )
    assert report["steps"] == 2 and not mm.in_training


def test_wrong_inputs_are_refused_with_a_sentence(train, sr, comfy):
    def refused(words, node="TrainMMLE", **inputs):
        with pytest.raises(ValueError, match=words):
            train(node, **inputs)

    refused("expected letters, digits", name="a/b")
    refused("is no folder", image_folder="nowhere")
    refused("expected one below ComfyUI", image_folder="/nowhere")
    refused("Got neither a folder nor images", image_folder="")
    refused("Got crops of 72 pixels: expected a multiple of 32", crop_size=72)
    refused("got degradation = 'bad'", degradation="bad")
    refused("Got the metrics nonsense", metrics="nonsense")
    models = train("TrainMMLE", name="refusals", steps=1)[0]
    other = comfy.module("host.gains.models").LoadedGainModels(
        models.patcher, type(models.info)("0", "another", models.info.metrics), models.config, ""
    )
    refused("were trained on another", "TrainPFJ", gain_models=other)
    empty = type(models)(models.patcher, models.info, type(models.config)(None, comfy.module("models.feature_injection").PfjConfig(3, metrics=3)), "")  # fmt: skip
    refused("has no MMLE regressor", "TrainPFJ", gain_models=empty)


def test_it_begins_and_calls_as_the_hosts_sampler_does(comfy, sr):
    """The trainer's own calls of the base against ComfyUI's KSampler on the same conditioning and noise."""
    from comfy.sample import sample
    from comfy.samplers import calculate_sigmas

    module = comfy.module("host.training.gains_base")
    with torch.inference_mode(False), torch.no_grad():
        base = module.HostGainBase(sr.patcher, sr.vae, None, module.ChainSettings(calls=6), torch.float32)
        lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        noise = torch.randn(1, 48, 16, 16, generator=torch.Generator().manual_seed(2))
        seen = base.see(lr)
        x = base.start(seen, noise)
        for sigma, after in zip(base.sigmas[:-1], base.sigmas[1:]):
            x0 = base.predict(x, sigma[None], seen)
            x = x + (x - x0) / sigma * (after - sigma)
    with torch.inference_mode():
        empty = comfy.node("AdaptiveSREmptyPrompt").execute(sr.patcher).args[0]
        conds = comfy.node("AdaptiveSRResShiftConditioning").execute(sr, empty, empty, lr.movedim(1, -1)).args
        start = conds[2]["samples"]
        out = sample(sr.patcher, noise, 6, 1.0, "euler", "normal", *conds[:2], start, seed=0)
        levels = calculate_sigmas(sr.patcher.get_model_object("model_sampling"), "normal", 6)
    assert torch.allclose(base.sigmas, levels, rtol=1e-5)
    assert torch.allclose(x, out, atol=1e-4)


def test_a_correlation_that_is_not_defined_is_valid_json_and_said(comfy):
    gains = comfy.module("host.training.gains")
    words = gains._words(gains.Agreement({"psnr": 0.51234, "piqe": float("nan")}, 0.5, 3))
    assert words["correlations"] == {"psnr": 0.5123, "piqe": None}
    json.dumps(words, allow_nan=False)
    line = gains.describe({"losses": {"loss": [1.0, 0.5]}, "steps": 1, "file": "x", "held_out": words})
    assert "psnr 0.51, piqe not defined" in line
