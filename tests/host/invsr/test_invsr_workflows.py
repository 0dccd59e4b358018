"""The shipped workflows of InvSR, queued on a server of its own with a small SD-2 checkpoint and a tiny predictor."""

import json
import os
from pathlib import Path

import pytest
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint, with_small_checkpoint
from adaptivesr.tools.small_models.tiny import STUDENT, TINY_PREDICTOR, fetch_pixels, put_tiny_models
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PHOTO = ROOT / "tools" / "demo_photo" / "astronaut.png"
UPSCALE, NOISE = "AdaptiveSRInvSRUpscale", "AdaptiveSRInvSRNoise"
SMALL = {"patch_size": 32, "overlap": 8}


@pytest.fixture(scope="module")
def server():
    """A host with the small checkpoint, the tiny predictor and, beside it, a file of another kind."""

    def prepare(base):
        put_small_checkpoint(base)
        put_tiny_models(base)
        models = base / "models" / "adaptivesr"
        (models / "noise_predictor" / STUDENT).write_bytes((models / "one_step" / STUDENT).read_bytes())

    with devserver.running_host(Path(os.environ["ADAPTIVESR_HOST"]), prepare=prepare, quiet=True) as running:
        yield running


@pytest.fixture
def run(client, tmp_path):
    """Runs a shipped workflow on the demo photo at a size, with other inputs of its InvSR node."""

    def call(name, width, height, predictor=TINY_PREDICTOR, **inputs):
        file = tmp_path / f"{width}x{height}.png"
        Image.open(PHOTO).convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(file)
        prompt = with_small_checkpoint(json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8")))
        image = client.upload_image(file)
        for node in prompt.values():
            if node["class_type"] == "LoadImage":
                node["inputs"]["image"] = image
            elif node["class_type"] == "AdaptiveSRLoadNoisePredictor":
                node["inputs"]["model_name"] = predictor
            elif node["class_type"] in (UPSCALE, NOISE):
                node["inputs"].update(SMALL, **inputs)
        for node_id in nodes_of_class(prompt, UPSCALE):
            prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [node_id, 1]}}
        return prompt, client.run(prompt)

    return call


def saved(client, prompt, done):
    assert done.succeeded, done.error
    (node_id,) = nodes_of_class(prompt, "SaveImage")
    return fetch_pixels(client, done.outputs[node_id]["images"][0])


def refused_at(prompt, done, class_type):
    """The sentence that a run shows on a node of that class."""
    assert not done.succeeded
    assert prompt[done.events[-1].data["node_id"]]["class_type"] == class_type
    assert "Traceback" not in done.error
    return done.error


@pytest.mark.parametrize(
    ("width", "height", "steps", "taus"),
    [
        (48, 40, 1, [200]),
        (37, 21, 3, [200, 100, 50]),
        (1, 1, 7, [250, 214, 178, 142, 107, 71, 35]),
        (1, 23, 1, [200]),
    ],
)
def test_the_workflow_runs_at_any_size_and_number_of_steps(client, run, width, height, steps, taus):
    prompt, done = run("invsr", width, height, steps=steps)
    assert saved(client, prompt, done).shape == (4 * height, 4 * width, 3)
    report = json.loads(done.outputs["report"]["text"][0])
    assert report["taus"] == taus and report["model_calls"] == len(taus) * report["regions"]
    assert report["decoded_per_output"] >= 1


@pytest.mark.parametrize(("width", "height", "steps"), [(48, 40, 5), (37, 21, 1), (2, 35, 7)])
def test_the_workflow_in_parts_keeps_every_size_too(client, run, width, height, steps):
    prompt, done = run("invsr_steps", width, height, steps=steps)
    assert saved(client, prompt, done).shape == (4 * height, 4 * width, 3)


def test_pixel_chop_and_guidance_run_from_the_workflow(client, run):
    prompt, done = run("invsr", 40, 34, mode="pixel chop", cfg=2.0, steps=2)
    assert saved(client, prompt, done).shape == (136, 160, 3)
    assert json.loads(done.outputs["report"]["text"][0])["mode"] == "pixel chop"


def test_a_file_of_another_kind_is_a_sentence_on_the_loader_and_the_graph_stays_usable(client, run):
    prompt, done = run("invsr", 16, 16, predictor=STUDENT)
    assert "expected an InvSR noise predictor" in refused_at(prompt, done, "AdaptiveSRLoadNoisePredictor")
    prompt, done = run("invsr", 16, 16)
    assert saved(client, prompt, done).shape == (64, 64, 3)


@pytest.mark.parametrize(("name", "class_type"), [("invsr", UPSCALE), ("invsr_steps", NOISE)])
def test_a_bad_step_list_is_a_sentence_on_the_node(run, name, class_type):
    prompt, done = run(name, 16, 16, taus="120, 60")
    assert "starts at 120: expected one of 250, 200, 150, 100" in refused_at(prompt, done, class_type)
