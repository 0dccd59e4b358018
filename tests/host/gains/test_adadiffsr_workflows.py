"""The shipped AdaDiffSR workflows, queued on a server of their own: StableSR's with small files, the embedded one as it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from adaptivesr.models import registry
from adaptivesr.models.gain_models import base_identity
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.cfw import SMALL_CFW, put_small_cfw
from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint, with_small_checkpoint
from adaptivesr.tools.small_models.gain_models import save_gain_models, small_gain_models
from adaptivesr.tools.small_models.stablesr import SMALL_STABLESR, put_small_stablesr
from adaptivesr.tools.small_models.tiny import fetch_pixels
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[3]
PHOTO = ROOT / "tools" / "demo_photo" / "astronaut.png"
SHIPPED = ROOT / "models" / "weights" / "embedded_gain.safetensors"
UNTRAINED, FOREIGN = "untrained.safetensors", "foreign.safetensors"
SAMPLER = "AdaptiveSRTiledRegionSampler"
SIDE = 48
SMALL = {
    "AdaptiveSRLoadStableSR": {"model_name": SMALL_STABLESR},
    "AdaptiveSRLoadCFW": {"cfw_name": SMALL_CFW},
}


def teacher_identity():
    """What `host.gains.models.base_of` says of the embedded teacher, whose network is one part of the host's module."""
    network = registry.build(
        registry.identify(load_file(ROOT / "models" / "weights" / "embedded_teacher.safetensors")), device="meta"
    )
    return base_identity({f"network.{key}": tuple(value.shape) for key, value in network.state_dict().items()})


def half_sky():
    """A smooth gradient over blotches, half and half."""
    rows = np.linspace(150, 210, SIDE)[:, None, None] * np.array([0.7, 0.85, 1.1])
    pixels = np.broadcast_to(rows, (SIDE, SIDE, 3)).copy()
    blotches = np.random.default_rng(3).integers(0, 256, (SIDE // 4, SIDE // 2, 3)).repeat(2, 0).repeat(2, 1)
    pixels[SIDE // 2 :] = blotches
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def server():
    """A host with the small files and a part of the demo photo."""

    def prepare(base):
        put_small_checkpoint(base)
        put_small_stablesr(base)
        put_small_cfw(base)
        folder = base / "models" / "adaptivesr" / "gain_models"
        folder.mkdir(parents=True, exist_ok=True)
        save_gain_models(folder / UNTRAINED, (teacher_identity(), "the embedded teacher"), small_gain_models(48, 3))
        save_gain_models(folder / FOREIGN, ("0" * 16, "another base"), small_gain_models(48, 3))
        photo = Image.open(PHOTO).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        photo.save(base / "input" / "example.png")
        half_sky().save(base / "input" / "half_sky.png")

    with devserver.running_host(Path(os.environ["ADAPTIVESR_HOST"]), prepare=prepare, quiet=True) as running:
        yield running


def workflow(name, **changes):
    """The shipped graph on small files, with the report as an output; changes are inputs by class name."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    prompt = with_small_checkpoint(prompt) if nodes_of_class(prompt, "CheckpointLoaderSimple") else prompt
    for node in prompt.values():
        node["inputs"] |= SMALL.get(node["class_type"], {}) | changes.get(node["class_type"], {})
    (sampler,) = nodes_of_class(prompt, SAMPLER)
    prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 2]}}
    return prompt


def run(client, prompt, name=None):
    """(picture, heat map, report); pictures are kept below ADAPTIVESR_OUT."""
    done = client.run(prompt)
    assert done.succeeded, done.error
    pictures = []
    for kind in ("SaveImage", "PreviewImage"):
        (node_id,) = nodes_of_class(prompt, kind)
        pictures.append(fetch_pixels(client, done.outputs[node_id]["images"][0]))
        if name and os.environ.get("ADAPTIVESR_OUT"):
            Image.fromarray(pictures[-1]).save(Path(os.environ["ADAPTIVESR_OUT"]) / f"{name}_{kind}.png")
    return *pictures, json.loads(done.outputs["report"]["text"][0])


def likeness(pixels):
    photo = Image.open(PHOTO).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    large = np.asarray(photo.resize((4 * SIDE, 4 * SIDE), Image.Resampling.BICUBIC), dtype=float)
    return np.corrcoef(pixels.astype(float).ravel(), large.ravel())[0, 1]


def test_the_papers_chain_runs_without_trained_parts(client):
    settings = {SAMPLER: {"steps": 14, "tile_size": 128, "overlap": 64}}
    picture, sheet, report = run(client, workflow("adadiffsr", **settings), "adadiffsr")
    assert picture.shape == (4 * SIDE, 4 * SIDE, 3) and likeness(picture) > 0.9
    assert report["gain_back_end"] == "proxies" and report["tiles"] == 4
    (steps,) = report["steps_per_region"]
    assert [len(word) for word in report["classes"][0]] == steps
    assert sum(steps) == report["region_calls"] < report["fixed_region_calls"] == 14 * 4
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("name", ["adadiffsr", "adadiffsr_embedded"])
def test_sky_gets_fewer_steps_than_texture(client, name):
    picture = {"LoadImage": {"image": "half_sky.png"}}
    prompt = workflow(name, **picture, **{SAMPLER: {"steps": 20, "tile_size": 64, "overlap": 0}})
    *_, report = run(client, prompt, f"half_sky_{name}")
    (steps,) = report["steps_per_region"]
    assert report["tiles"] == 9 and max(steps[:3]) < min(steps[6:]), steps  # the middle row lies across the border


@pytest.mark.parametrize(
    "file",
    [
        UNTRAINED,
        pytest.param(
            "embedded: teacher, 15 steps",
            marks=pytest.mark.skipif(
                not SHIPPED.is_file(), reason="models/weights/embedded_gain.safetensors is not there"
            ),
        ),
    ],
)
def test_the_embedded_chain_runs_with_all_parts(client, file):
    settings = {"AdaptiveSRLoadMMLEPFJ": {"model_name": file}, SAMPLER: {"steps": 16, "tile_size": 96, "overlap": 32}}
    picture, sheet, report = run(client, workflow("adadiffsr_embedded", **settings), f"embedded_{file[:8]}")
    assert picture.shape == (4 * SIDE, 4 * SIDE, 3)
    assert likeness(picture) > (0.9 if file != UNTRAINED else 0.5)
    assert report["gain_back_end"] == "regressor" and report["tiles"] == 9
    assert report["region_calls"] < report["fixed_region_calls"] == 16 * 9
    assert sheet.shape[2] == 3
    off, _, _ = run(client, workflow("adadiffsr_embedded", **settings, AdaptiveSRPFJInject={"strength": 0.0}))
    injects = file == UNTRAINED or any(key.startswith("pfj.") for key in load_file(SHIPPED))
    assert np.array_equal(off, picture) is not injects


def test_a_file_for_another_base_is_told_on_the_node(client):
    done = client.run(workflow("adadiffsr_embedded", AdaptiveSRLoadMMLEPFJ={"model_name": FOREIGN}))
    assert not done.succeeded and "trained on another base" in str(done.error)


def test_the_papers_workflow_runs_with_parts_trained_on_its_base(client):
    """Trains both parts on the MODEL of StableSR Apply, then follows the note: takes the mute off and chooses the regressor."""
    training = workflow("adadiffsr")
    (apply,), (checkpoint,) = (
        nodes_of_class(training, kind) for kind in ("AdaptiveSRStableSRApply", "CheckpointLoaderSimple")
    )
    recipe = json.loads((ROOT / "workflows" / "api" / "train_mmle.json").read_text(encoding="utf-8"))
    small = {
        "model": [apply, 0], "vae": [checkpoint, 2], "positive": [apply, 1], "crop_size": 64, "calls": 4, "batch_size": 4,
        "sampler_name": "ddpm", "steps": 3, "name": "papers", "images": ["5", 0],
    }  # fmt: skip
    mmle = recipe["4"] | {"inputs": recipe["4"]["inputs"] | small | {"trajectories": 8, "schedule": 3}}
    pfj = recipe["5"] | {"inputs": recipe["5"]["inputs"] | small | {"gain_models": ["mmle", 0]}}
    shown = {
        f"losses of {key}": {"class_type": "PreviewImage", "inputs": {"images": [key, 1]}} for key in ("mmle", "pfj")
    }
    needed = {key: training[key] for key in reachable(training, apply)}
    done = client.run({**needed, "5": training["5"], "mmle": mmle, "pfj": pfj, **shown})
    assert done.succeeded, done.error
    trained = client.object_info()["AdaptiveSRLoadMMLEPFJ"]["input"]["required"]["model_name"][1]["options"]
    first, file = sorted(name for name in trained if "papers" in name)
    assert first != file

    prompt = workflow("adadiffsr", **{SAMPLER: {"steps": 14, "tile_size": 128, "overlap": 64}})
    prompt["trained"] = {"class_type": "AdaptiveSRLoadMMLEPFJ", "inputs": {"model_name": file}}
    for kind in ("AdaptiveSRMMLEGainEstimator", "AdaptiveSRPFJInject"):
        (key,) = nodes_of_class(prompt, kind)
        prompt[key]["inputs"]["gain_models"] = ["trained", 0]
        prompt[key]["inputs"] |= {"back_end": "regressor"} if "back_end" in prompt[key]["inputs"] else {}
    picture, _, report = run(client, prompt, "papers_trained")
    assert picture.shape == (4 * SIDE, 4 * SIDE, 3) and report["gain_back_end"] == "regressor"


def reachable(prompt, key):
    """Ids of a node and of everything that it needs."""
    links = [value[0] for value in prompt[key]["inputs"].values() if isinstance(value, list)]
    return {key}.union(*(reachable(prompt, source) for source in links))
