"""Train Time-Aware Adapter on the real host: what it writes, loads, refuses, and how it stops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivesr.tools.small_models.checkpoints import SMALL_SD2, put_small_checkpoint
from adaptivesr.tools.small_models.controls import SMALL_TASR, put_small_controls
from PIL import Image
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact

WEIGHT_FREE = "gradient energy match (ours, weight-free)"
FAST = {
    "steps": 4, "batch_size": 2, "learning_rate": 1e-4, "adapter_every": 2, "crop_size": 64, "reward": WEIGHT_FREE,
    "precision": "float32", "decode_size": 32,
}  # fmt: skip


@pytest.fixture(scope="session")
def base(comfy):
    """The host's base folder with small files."""
    import folder_paths

    path = Path(folder_paths.base_path if comfy is None else folder_paths.models_dir).parent
    put_small_checkpoint(path)
    put_small_controls(path)
    return path


@pytest.fixture(scope="session")
def loaded(comfy, base):
    """MODEL, VAE, CONTROL_NET, TIME_AWARE_ADAPTER and a prompt, loaded as a graph loads them."""
    with torch.inference_mode():
        model, _, vae = comfy.nodes.CheckpointLoaderSimple().load_checkpoint(SMALL_SD2)
        control, adapter, _ = (
            comfy.node("AdaptiveSRLoadTimeAwareControlNet").execute(SMALL_TASR, "(from the ControlNet file)").args
        )
        positive = comfy.node("AdaptiveSREmptyPrompt").execute(model).args[0]
    return {"model": model, "vae": vae, "positive": positive, "control_net": control, "adapter": adapter}


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((100, 120), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def train(comfy, loaded, folder):
    def run(*, without=(), **inputs):
        given = {key: value for key, value in loaded.items() if key not in without}
        with torch.inference_mode():
            return (
                comfy.node("AdaptiveSRTrainTimeAwareAdapter")
                .execute(**{"stage": "stage II", "image_folder": str(folder), **FAST, **given, **inputs})
                .args
            )

    return run


def weights(part):
    return {key: value.clone() for key, value in part.network.state_dict().items()}


def test_it_trains_saves_and_what_it_saves_loads_and_samples(comfy, train, loaded, base):
    before = {key: value.clone() for key, value in loaded["model"].model.diffusion_model.state_dict().items()}
    control_before = loaded["control_net"].control_model.state_dict()["zero_convs.0.0.weight"].clone()
    adapter, control, losses, report = train(name="first")
    report = json.loads(report)
    assert losses.ndim == 4 and losses.shape[-1] == 3
    assert set(report["losses"]) == {"denoise", "reward_loss", "alpha", "l1"} and report["steps"] == 4
    after = loaded["model"].model.diffusion_model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # the graph's own model is as it was
    assert torch.equal(loaded["control_net"].control_model.state_dict()["zero_convs.0.0.weight"], control_before)
    assert not torch.equal(control.control_model.state_dict()["zero_convs.0.0.weight"].float(), control_before.float())
    name = Path(report["file"]).name
    assert name == "first_00001_4_steps.safetensors" and (base / "output" / report["file"]).is_file()
    options = comfy.node("AdaptiveSRLoadTimeAwareControlNet").INPUT_TYPES()["required"]["control_name"][1]["options"]
    assert name in options
    with torch.inference_mode():
        again, part, info = (
            comfy.node("AdaptiveSRLoadTimeAwareControlNet").execute(name, "(from the ControlNet file)").args
        )
    assert "lite" in info
    left, right = weights(adapter), weights(part)
    assert set(left) == set(right) and all(torch.equal(left[key], right[key]) for key in left)
    pictures = [sampled(comfy, loaded, one, two) for one, two in ((control, adapter), (again, part))]
    assert torch.equal(*pictures) and torch.isfinite(pictures[0]).all()
    assert not torch.equal(pictures[0], sampled(comfy, loaded, loaded["control_net"], loaded["adapter"]))


def sampled(comfy, loaded, control, adapter):
    with torch.inference_mode():
        node = comfy.node("AdaptiveSRTimeAwareAdapter")
        aware = node.execute(control, "trained", "constant", adapter=adapter).args[0]
        image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
        positive, negative = comfy.nodes.ControlNetApplyAdvanced().apply_controlnet(
            loaded["positive"], loaded["positive"], aware, image, 1.0, 0.0, 1.0, loaded["vae"]
        )
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        return comfy.nodes.common_ksampler(loaded["model"], 0, 2, 1.0, "euler", "normal", positive, negative, latent)[
            0
        ]["samples"]


def state_of(base, report):
    from safetensors.torch import load_file

    return load_file(base / "output" / "adaptivesr" / "training" / f"{json.loads(report)['resume']}.state.safetensors")


def test_two_steps_and_two_more_equal_four_bit_for_bit(train, base):
    whole = state_of(base, train(name="whole")[3])
    half = train(name="tasr_half", steps=2)[3]
    rest = train(name="tasr_half", steps=2, resume=json.loads(half)["resume"])[3]
    assert json.loads(rest)["resume"] == "tasr_half_00002" and json.loads(rest)["steps"] == 4
    resumed = state_of(base, rest)
    assert set(whole) == set(resumed) and all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_cancel_saves_the_state_and_the_run_goes_on_from_there(comfy, train, base, monkeypatch):
    import comfy.model_management as mm

    whole = state_of(base, train(name="uncut")[3])
    kind = comfy.module("training.tasr.run").TasrRun
    step = kind.train_step

    def interrupting(run, generator):
        numbers = step(run, generator)
        if run.state.step == 3:
            mm.interrupt_current_processing(True)
        return numbers

    monkeypatch.setattr(kind, "train_step", interrupting)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="tasr_cut")
    monkeypatch.undo()
    assert not mm.in_training
    assert not list((base / "output" / "adaptivesr" / "controlnet").glob("tasr_cut_*"))
    resumed = state_of(base, train(name="tasr_cut", steps=1, resume="tasr_cut_00001")[3])
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_stage_one_from_the_model_itself_gives_a_controlnet_without_adapters(train):
    adapter, control, _, report = train(without=("control_net", "adapter"), stage="stage I", steps=2, name="stage1")
    report = json.loads(report)
    assert adapter is None and list(report["losses"]) == ["denoise"] and report["started_from"] == "the MODEL's encoder"
    moved = [
        control.control_model.state_dict()[key].abs().max()
        for key in ("zero_convs.1.0.weight", "middle_block_out.0.weight")
    ]
    assert all(value > 0 for value in moved)  # from zero


@pytest.mark.parametrize("design", ["full", "paper"])
def test_other_designs_train(train, design):
    adapter, *_ = train(without=("adapter",), adapter_size=design, steps=2, batch_size=1, name=design)
    assert adapter.network.config.design == design
    assert adapter.network.config.alpha_max == (1.0 if design == "paper" else 2.0)
    assert adapter.network.site(1).last.weight.abs().max() > 0  # zero before the first turn


def test_a_stage_two_without_adapters_saves_a_controlnet_alone(train):
    adapter, _, _, report = train(without=("adapter",), reward_moves="ControlNet, without adapters", name="hacked")
    assert adapter is None and json.loads(report)["adapters"] is None
    assert "reward" in json.loads(report) and "denoise" in json.loads(report)["losses"]


def test_gates_without_the_time_load_like_others(comfy, train):
    adapter, _, _, report = train(sees_time=False, loss_schedule="inverse", steps=2, name="timeless")
    name = Path(json.loads(report)["file"]).name
    with torch.inference_mode():
        part = comfy.node("AdaptiveSRLoadTimeAwareControlNet").execute(name, "(from the ControlNet file)").args[1]
    for network in (adapter.network, part.network):
        assert all(
            network.site(index).reads_time.weight.abs().sum() == 0 for index in range(len(network.config.inputs))
        )


def darker(scale, by):
    """A network as Load Upscale Model gives it, which enlarges and takes something off every value."""
    network = Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=scale)
    weights = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    last = max((name for name in weights if name.endswith(".bias")), key=lambda name: int(name.split(".")[1]))
    found = ModelLoader().load_from_state_dict({**weights, last: torch.full_like(weights[last], -by)}).eval()
    assert found.scale == scale
    from comfy.model_patcher import CoreModelPatcher

    found.patcher = CoreModelPatcher(found.model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    return found


def test_conditions_are_cleaned_by_a_connected_network(comfy, train, base):
    cleaner_of = comfy.module("host.training.cleaner").cleaner_of
    condition = 0.3 + 0.6 * torch.rand(2, 3, 64, 64)
    for scale in (1, 4):
        clean, about = cleaner_of(darker(scale, 0.2), 64)
        cleaned = clean(condition)
        small = torch.nn.functional.avg_pool2d(condition, 8)
        assert cleaned.shape == condition.shape and about.startswith(", cleaned by ")
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(cleaned, 8), small - 0.2, atol=0.05, rtol=0)
        assert not cleaned.is_inference()
    assert cleaner_of(None, 64) == (None, "")
    kinds = [state_of(base, train(steps=2, name="clean", cleaner=one)[3]) for one in (None, darker(4, 0.2))]
    assert any(not torch.equal(kinds[0][key], kinds[1][key]) for key in kinds[0])
    with pytest.raises(ValueError, match=r"enlarges 3 times.*Load Upscale Model"):
        train(cleaner=darker(3, 0.0))


def test_images_in_place_of_a_folder_and_bfloat16(train):
    report = json.loads(
        train(image_folder="", images=torch.rand(3, 70, 80, 3), precision="bfloat16", steps=2, name="b")[3]
    )
    assert report["steps"] == 2 and all(np.isfinite(ends).all() for ends in report["losses"].values())


class AnotherControl:
    """What the host asks of a ControlNet, by another loader."""

    def copy(self):
        return self

    def get_control(self, *_):
        return None


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"reward": "CLIP-IQA"}, r"needs CLIP's weights RN50\.pt.*'gradient energy match \(ours, weight-free\)'"),
        ({"image_folder": ""}, "neither a folder nor images"),
        ({"image_folder": "nowhere"}, "is no folder"),
        ({"image_folder": "/nowhere"}, "expected one below ComfyUI"),
        ({"images": torch.zeros(1, 8, 8, 3)}, "expected one of them"),
        ({"name": "../evil"}, "letters, digits"),
        ({"positive": []}, "positive is empty"),
        ({"control_net": object()}, "control_net = .object.: expected CONTROL_NET"),
        ({"control_net": AnotherControl()}, "control_net is a AnotherControl.*Load Time-Aware ControlNet itself"),
    ],
)
def test_wrong_input_is_a_sentence(train, tmp_path, monkeypatch, inputs, sentence):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=sentence):
        train(**inputs)


def test_an_empty_folder_is_a_sentence(train, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        train(image_folder=str(tmp_path / "empty"))


@pytest.mark.parametrize(("kind", "sentence"), [("v", "does not predict noise"), ("sdxl", "and a label")])
def test_models_of_other_kinds_are_refused(train, patcher, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(model=patcher(kind))


def test_a_controlnet_or_adapter_of_another_base_is_refused(train, parts):
    with pytest.raises(ValueError, match="text width"):
        train(control_net=parts.control)
    with pytest.raises(ValueError, match="connected adapter is made for sites"):
        train(adapter=parts.adapters(sites=[(128, 64)] * 4))


class Letters:
    """In the place of a CLIP, whose smallest one is too large for a test: one token for each letter, at least two."""

    def tokenize(self, text):
        return [ord(letter) for letter in text.ljust(2)]

    def encode_from_tokens_scheduled(self, tokens):
        return [[torch.tensor(tokens, dtype=torch.float32)[None, :, None].expand(-1, -1, 1024) / 128, {}]]


def test_tags_beside_pictures_are_their_prompts_and_the_empty_prompt_is_made(comfy, loaded, folder, train):
    (folder / "1.txt").write_text("sky, tree, ", encoding="utf-8")
    training = comfy.module("host.training.tasr")
    pictures = training.pictures_of(str(folder), None)
    texts, empty = training.texts_of(pictures, loaded["positive"], Letters())
    assert len(texts) == 4 and texts[1].shape == (1, 9, 1024) and empty.shape == (1, 2, 1024)
    assert torch.equal(texts[0], loaded["positive"][0][0]) and texts[1][0, 0, 0] == ord("s") / 128
    report = json.loads(train(clip=Letters(), steps=2, batch_size=1, name="tags")[3])
    assert report["steps"] == 2
