"""Train CFW on the real host: triples, what it writes, loads, refuses, and how it stops."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from adaptivesr.tools.small_models.cfw import SMALL_CFW, put_small_cfw
from adaptivesr.tools.small_models.checkpoints import SMALL_SD2, put_small_checkpoint
from adaptivesr.tools.small_models.lpips import put_small_lpips
from adaptivesr.tools.small_models.stablesr import SMALL_STABLESR, put_small_stablesr
from safetensors.torch import load_file

WEIGHT_FREE = "gradients at three scales (ours, weight-free)"
FAST = {
    "settings": "own settings", "steps": 4, "batch_size": 1, "accumulate": 1, "learning_rate": 1e-4, "size": "small",
    "degradation": "stablesr", "crop_size": 64, "triples": 4, "sampling_steps": 2, "perceptual": WEIGHT_FREE,
    "adversarial_after": 2, "precision": "float32", "gradient_checkpointing": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def base(comfy):
    """The host's base folder with small files."""
    import folder_paths

    path = Path(folder_paths.models_dir).parent
    put_small_checkpoint(path), put_small_stablesr(path), put_small_cfw(path)
    folder_paths.filename_list_cache.clear()
    return path


@pytest.fixture(scope="session")
def loaded(comfy, base):
    """MODEL, a KL VAE and StableSR, loaded as a graph loads them."""
    with torch.inference_mode():
        model, _, _ = comfy.nodes.CheckpointLoaderSimple().load_checkpoint(SMALL_SD2)
        cfw, vae, _ = comfy.node("AdaptiveSRLoadCFW").execute(SMALL_CFW).args
        stablesr = comfy.node("AdaptiveSRLoadStableSR").execute(SMALL_STABLESR).args[0]
    return {"model": model, "vae": vae, "stablesr": stablesr, "given": cfw}


def pictures():
    cells = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(4))
    return torch.nn.functional.interpolate(cells, size=80, mode="bicubic").clamp(0, 1).movedim(1, -1)


@pytest.fixture
def train(comfy, loaded):
    def run(**inputs):
        given = {key: loaded[key] for key in ("model", "vae", "stablesr")}
        with torch.inference_mode():
            return comfy.node("AdaptiveSRTrainCFW").execute(**{**FAST, **given, "images": pictures(), **inputs}).args

    return run


def training_folder(base):
    return base / "output" / "adaptivesr" / "training"


def state_of(base, report):
    return load_file(training_folder(base) / f"{json.loads(report)['resume']}.cfw-state.safetensors")


def equal(left, right):
    return set(left) == set(right) and all(torch.equal(left[key], right[key]) for key in left)


def decoded(comfy, loaded, cfw):
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    with torch.inference_mode():
        decode = comfy.node("AdaptiveSRCFWDecode").execute
        return decode(loaded["vae"], cfw, latent, pictures()[:1, :64, :64], w=1.0, tile=0).args[0]


def test_it_trains_saves_and_what_it_saves_loads_and_decodes(comfy, train, loaded, base):
    before = {key: value.clone() for key, value in loaded["vae"].first_stage_model.state_dict().items()}
    cfw, losses, report = train(name="cfw_first", steps=3, samples_every=3)
    report = json.loads(report)
    assert losses.shape[-1] == 3 and list(report["losses"]) == ["l1", "perceptual", "adversarial", "discriminator"]
    assert (report["steps"], report["triples"], report["started_from"]) == (3, 4, "fresh layers")
    assert equal(before, loaded["vae"].first_stage_model.state_dict())
    assert (training_folder(base) / "cfw_first_00001.cfw-state.0000003.png").is_file()
    name = Path(report["file"]).name
    loader = comfy.node("AdaptiveSRLoadCFW")
    assert name in loader.INPUT_TYPES()["required"]["cfw_name"][1]["options"]
    with torch.inference_mode():
        again = loader.execute(name).args[0]
    first, second = (decoded(comfy, loaded, one) for one in (cfw, again))
    assert torch.equal(first, second) and torch.isfinite(first).all()


def test_two_steps_and_two_more_equal_four_bit_for_bit_and_a_cancel_saves(comfy, train, base, monkeypatch):
    import comfy.model_management as mm

    whole = state_of(base, train(name="cfw_whole")[2])
    assert any(key.startswith("optimizer.1.") for key in whole) and any("discriminator" in key for key in whole)
    half = json.loads(train(name="cfw_half", steps=2)[2])
    assert equal(whole, state_of(base, train(name="cfw_half", steps=2, resume=half["resume"])[2]))
    kind = comfy.module("training.cfw.run").CFWRun
    step = kind.train_step

    def interrupting(run, generator):
        numbers = step(run, generator)
        if run.state.step == 3:
            mm.interrupt_current_processing(True)
        return numbers

    monkeypatch.setattr(kind, "train_step", interrupting)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="cfw_cut")
    monkeypatch.undo()
    assert not list((base / "output" / "adaptivesr" / "cfw").glob("cfw_cut_*"))
    assert equal(whole, state_of(base, train(name="cfw_cut", steps=1, resume="cfw_cut_00001")[2]))


def test_triples_are_made_once_and_a_cancel_between_them_keeps_what_is_there(comfy, train, base, monkeypatch):
    import comfy.model_management as mm

    host = comfy.module("host.training.cfw")
    made, sampled = [], host.sampled

    def counted(*given):
        made.append(1)
        if len(made) == 6:  # in the second file
            mm.interrupt_current_processing(True)
        return sampled(*given)

    monkeypatch.setattr(host, "sampled", counted)
    with pytest.raises(mm.InterruptProcessingException):
        train(name="cfw_triples", triples=8, seed=77)
    assert len(made) == 6
    report = json.loads(train(name="cfw_triples", triples=8, seed=77, steps=1)[2])
    assert len(made) == 10 and report["triples"] == 8 and report["resume"] == "cfw_triples_00001"
    train(name="cfw_triples", triples=8, seed=77, steps=1)
    assert len(made) == 10


def test_checkpointing_and_accumulation_change_no_number(train, base):
    plain, frugal = (
        state_of(
            base,
            train(name=f"cfw_frugal_{on}", steps=2, accumulate=2, adversarial_after=0, gradient_checkpointing=on)[2],
        )
        for on in (False, True)
    )
    assert equal(plain, frugal)


def test_a_file_is_gone_on_with_from_where_it_stands(train, loaded):
    given = loaded["given"]
    before = {key: value.float().clone() for key, value in given.network.state_dict().items()}
    more, _, report = train(name="cfw_more", steps=1, learning_rate=1e-8, cfw=given)
    assert json.loads(report)["started_from"] == "the given file"
    for key, value in more.network.state_dict().items():
        torch.testing.assert_close(value.float(), before[key], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"images": None}, "neither a folder nor images"),
        ({"crop_size": 100}, "multiple of 64"),
        ({"name": "../evil"}, "letters, digits"),
        ({"settings": "fast"}, "expected one of the list .*paper"),
        ({"perceptual": "eyes"}, "expected one of the list .*LPIPS"),
    ],
)
def test_wrong_input_is_a_sentence(train, inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(**inputs)


def test_a_vae_of_another_kind_is_a_sentence(comfy, train, base):
    with torch.inference_mode():
        _, _, vae = comfy.nodes.CheckpointLoaderSimple().load_checkpoint(SMALL_SD2)
    with pytest.raises(ValueError, match=r"Train CFW got a VAE of another kind .TAESD.: expected the KL autoencoder"):
        train(vae=vae)


def gradients(comfy, vae, precision):
    """The losses of one small triple, and the gradients of fresh fusion layers, with a frozen VAE of that precision."""
    module, generator = comfy.module, torch.Generator().manual_seed(7)
    init, runs = module("training.cfw.init"), module("training.cfw.run")
    config = module("training.cfw.config").CFWTrainConfig(
        perceptual=WEIGHT_FREE, accumulate=1, adversarial_weight=0.0, start="fresh (torch's start)"
    )
    triple = torch.rand(1, 3, 32, 32, generator=generator), torch.rand(1, 3, 32, 32, generator=generator)
    latent = torch.randn(1, 4, 4, 4, generator=generator)
    triples = SimpleNamespace(batch=lambda generator, size: (*triple, latent))
    base = module("host.training.cfw_base").fused_autoencoder(vae, precision, checkpointing=True)
    cfw = init.fresh_cfw(init.fusion_config(base.widths(), "small"), config.start, generator)
    perceptual = module("training.cfw.losses").gradient_distance
    run = runs.CFWRun(runs.cfw_state(config, cfw, None), config, base, triples, perceptual)
    losses, _, picture = run.losses(generator)
    run.weighed(losses).backward()
    assert picture.dtype == torch.float32 and {p.grad.dtype for p in cfw.parameters()} == {torch.float32}
    return {name: float(loss.detach()) for name, loss in losses.items()}, [p.grad.flatten() for p in cfw.parameters()]


@pytest.mark.slow
def test_bfloat16_gives_nearly_the_losses_and_gradients_of_float32(comfy, loaded):
    (losses, whole), (near, half) = (
        gradients(comfy, loaded["vae"], precision) for precision in (torch.float32, torch.bfloat16)
    )
    assert near == pytest.approx(losses, rel=0.02) and near != losses
    assert float(torch.cosine_similarity(torch.cat(whole), torch.cat(half), dim=0)) > 0.99


@pytest.fixture
def hub(comfy, tmp_path, monkeypatch):
    """Where torchvision and pyiqa keep their weights, empty, without a network to fetch them."""
    from pyiqa.utils import download_util

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path / "pyiqa"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    return tmp_path


@pytest.mark.slow
def test_with_lpips_weights_it_trains_by_them(hub, train):
    put_small_lpips(hub)
    report = json.loads(train(perceptual="LPIPS", name="cfw_lpips", steps=1)[2])
    other = json.loads(train(name="cfw_no_lpips", steps=1)[2])
    assert (report["perceptual"], other["perceptual"]) == ("LPIPS", WEIGHT_FREE)
    assert report["losses"]["l1"] == other["losses"]["l1"]
    assert report["losses"]["perceptual"][0] > 0 and report["losses"]["perceptual"] != other["losses"]["perceptual"]


@pytest.mark.slow
def test_without_lpips_weights_nothing_is_made_and_the_sentence_names_the_other_loss(hub, train, base):
    before = set((training_folder(base) / "triples").glob("*"))
    with pytest.raises(ValueError, match="choose the perceptual loss 'gradients at three scales"):
        train(perceptual="LPIPS", seed=78)
    assert set((training_folder(base) / "triples").glob("*")) == before
