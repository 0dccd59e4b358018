"""Train StableSR on the real host: what it writes, loads, refuses, and how it stops."""

import json
from pathlib import Path

import pytest
import torch
from adaptivesr.tools.small_models.checkpoints import SMALL_SD2, put_small_checkpoint
from safetensors.torch import load_file

FAST = {
    "settings": "own settings", "steps": 4, "batch_size": 1, "accumulate": 1, "learning_rate": 1e-4, "size": "small",
    "degradation": "stablesr", "sharpened": True, "crop_size": 64, "precision": "float32", "gradient_checkpointing": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def base(comfy):
    """The host's base folder with a small checkpoint."""
    import folder_paths

    path = Path(folder_paths.models_dir).parent
    put_small_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def loaded(comfy, base):
    """MODEL and VAE, loaded as a graph loads them."""
    with torch.inference_mode():
        model, _, vae = comfy.nodes.CheckpointLoaderSimple().load_checkpoint(SMALL_SD2)
    return {"model": model, "vae": vae}


@pytest.fixture
def train(comfy, loaded):
    def run(**inputs):
        cells = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(4))
        images = torch.nn.functional.interpolate(cells, size=80, mode="bicubic").clamp(0, 1).movedim(1, -1)
        with torch.inference_mode():
            node = comfy.node("AdaptiveSRTrainStableSR")
            return node.execute(**{**FAST, **loaded, "images": images, **inputs}).args

    return run


def state_of(base, report):
    name = f"{json.loads(report)['resume']}.stablesr-state.safetensors"
    return load_file(base / "output" / "adaptivesr" / "training" / name)


def equal(left, right):
    return set(left) == set(right) and all(torch.equal(left[key], right[key]) for key in left)


def test_it_trains_saves_and_what_it_saves_loads_and_guides(comfy, train, loaded, base):
    before = {key: value.clone() for key, value in loaded["model"].model.diffusion_model.state_dict().items()}
    parts, losses, report = train(name="ssr_first", steps=2, samples_every=2)
    report = json.loads(report)
    assert losses.shape[-1] == 3 and list(report["losses"]) == ["denoise"] and report["steps"] == 2
    assert report["started_from"] == "a fresh encoder" and report["predicts"] == "eps"
    after = loaded["model"].model.diffusion_model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (base / "output/adaptivesr/training/ssr_first_00001.stablesr-state.0000002.png").is_file()
    name = Path(report["file"]).name
    loader = comfy.node("AdaptiveSRLoadStableSR")
    assert name in loader.INPUT_TYPES()["required"]["model_name"][1]["options"]
    with torch.inference_mode():
        again, _, *_ = loader.execute(name).args
        guided = [sampled(comfy, loaded, one) for one in (parts, again)]
    assert torch.equal(*guided) and torch.isfinite(guided[0]).all()


def sampled(comfy, loaded, parts):
    prompt = comfy.node("AdaptiveSREmptyPrompt").execute(loaded["model"]).args[0]
    lr = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    model, positive, negative = (
        comfy.node("AdaptiveSRStableSRApply").execute(loaded["model"], prompt, prompt, parts, lr, 1.0).args
    )
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return comfy.nodes.common_ksampler(model, 0, 2, 1.0, "euler", "normal", positive, negative, latent)[0]["samples"]


def test_two_steps_and_two_more_equal_four_bit_for_bit_and_a_cancel_saves(comfy, train, base, monkeypatch):
    import comfy.model_management as mm

    whole = state_of(base, train(name="ssr_whole")[2])
    half = json.loads(train(name="ssr_half", steps=2)[2])
    assert equal(whole, state_of(base, train(name="ssr_half", steps=2, resume=half["resume"])[2]))
    kind = comfy.module("training.stablesr.run").StableSRRun
    step = kind.train_step

    def interrupting(run, generator):
        numbers = step(run, generator)
        if run.state.step == 3:
            mm.interrupt_current_processing(True)
        return numbers

    monkeypatch.setattr(kind, "train_step", interrupting)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="ssr_cut")
    monkeypatch.undo()
    assert not list((base / "output" / "adaptivesr" / "stablesr").glob("ssr_cut_*"))
    assert equal(whole, state_of(base, train(name="ssr_cut", steps=1, resume="ssr_cut_00001")[2]))


def test_checkpointing_changes_no_number(train, base):
    plain, frugal = (
        state_of(base, train(name=f"ssr_frugal_{on}", steps=2, gradient_checkpointing=on)[2]) for on in (False, True)
    )
    assert equal(plain, frugal)


def test_a_file_is_gone_on_with_from_where_it_stands(comfy, train, base):
    parts, _, _ = train(name="ssr_start", steps=1)
    before = {key: value.clone() for key, value in parts.parts.state_dict().items()}
    more, _, report = train(name="ssr_more", steps=1, learning_rate=1e-8, stablesr=parts)
    assert json.loads(report)["started_from"] == "the given file"
    for key, value in more.parts.state_dict().items():
        torch.testing.assert_close(value, before[key], atol=1e-6, rtol=1e-5)
    assert equal(before, parts.parts.state_dict())


@pytest.mark.slow
def test_four_pictures_with_their_noise_are_learnt_tenfold(comfy, loaded, tmp_path):
    """With times and noise held, all that the loss asks for can be learnt: encoder and SFT layers reach the whole UNet.

    With fresh noise the loss falls little, since the frozen base already predicts what noise there is. The picture that is left
    has the predicted clean pictures before and after, and the truth.
    """
    module = comfy.module
    config = module("training.stablesr.config").StableSRConfig(batch=4, lr=3e-3, sharpened=False)
    data, runs = module("training.data"), module("training.stablesr.run")
    cells = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(4))
    pictures = list(torch.nn.functional.interpolate(cells, size=80, mode="bicubic").clamp(0, 1))
    source = data.DegradedPairs(pictures, 64, module("imaging.degradation.presets").PRESETS["stablesr"], scale=1)
    with torch.no_grad():
        text = module("host.conditioning").empty_prompt(loaded["model"])[0][0]
        base = module("host.training.stablesr_base").guided_base(
            loaded["model"], loaded["vae"], text, torch.float32, frugal=False
        )
        parts = module("host.training.stablesr").fresh_parts(base, source, config, "small")

    class Held(runs.StableSRRun):
        """Every step draws the same pictures, times and noise."""

        def loss(self, generator):
            return super().loss(module("sampling.noise").generator_for(3))

    run = Held(runs.stablesr_state(config, parts), config, base, source)
    rows = [predicted(module, run)]
    module("training.runs").train(run, 25)
    losses = [row["denoise"] for _, row in run.log.rows]
    assert losses[-1] < 0.1 * losses[0]
    rows += [predicted(module, run), source.batch(module("sampling.noise").generator_for(3), 4)[0]]
    sheet = torch.cat([torch.cat(list(row), dim=2)[None] for row in rows], dim=2)
    module("host.training.files").save_picture(tmp_path / "before_after_truth.png", sheet.clamp(0, 1))


@torch.no_grad()
def predicted(module, run):
    """The clean pictures (4, 3, H, W) that the held draw's prediction stands for."""
    losses, samples = module("training.stablesr.losses"), module("training.stablesr.samples")
    generator, base = module("sampling.noise").generator_for(3), run.base
    hr, lr = (base.encode(side) for side in run.source.batch(generator, 4))
    t = torch.randint(1000, (4,), generator=generator)
    x = losses.noised(hr, t, torch.randn(hr.shape, generator=generator))
    output = base.predict(run.parts, x, t, lr)
    alphas = torch.from_numpy(module("sampling.schedules").stable_diffusion_alphas())[t].tolist()
    clean = [
        samples.clean_prediction(x[i : i + 1], output[i : i + 1], a, predicts_v=base.predicts_v)
        for i, a in enumerate(alphas)
    ]
    return base.decode(torch.cat(clean)).float().cpu()


def test_bfloat16_and_accumulation(comfy, train, monkeypatch):
    monkeypatch.setattr(comfy.module("host.training.networks").mm, "should_use_bf16", lambda *_, **__: True)
    report = json.loads(
        train(name="ssr_b", steps=1, precision="bfloat16", accumulate=2, gradient_checkpointing=True)[2]
    )
    assert report["steps"] == 1 and report["losses"]["denoise"][0] > 0


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"images": None}, "neither a folder nor images"),
        ({"crop_size": 100}, "multiple of 64"),
        ({"name": "../evil"}, "letters, digits"),
        ({"settings": "fast"}, "expected one of the list .*paper, 768"),
        ({"degradation": "rain"}, "expected one of the list .real-esrgan"),
    ],
)
def test_wrong_input_is_a_sentence(train, inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(**inputs)


def test_a_preset_overrules_the_inputs(comfy):
    host = comfy.module("host.training.stablesr")
    config = host.settings_of(comfy.module("training.stablesr.config").StableSRConfig, "paper, 768", {"batch_size": 9})
    assert (config.batch, config.accumulate, config.sharpened) == (3, 32, False)
