"""The workflows that need no files, queued over the API on the demo photo: degrade, upscale, measure; and the one box."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.checkpoints import SMALL_SD2, put_small_checkpoint
from adaptivesr.tools.small_models.tiny import fetch_pixels
from PIL import Image

API = Path(__file__).resolve().parents[3] / "workflows" / "api"
PHOTO = Path(__file__).resolve().parents[3] / "tools" / "demo_photo" / "astronaut.png"
UPSCALE, QUALITY = "AdaptiveSRAdaptiveUpscale", "AdaptiveSRImageQuality"


@pytest.fixture(scope="module", autouse=True)
def checkpoint(server):
    return put_small_checkpoint(server.base)


@pytest.fixture
def workflow(client, tmp_path):
    """A function that reads a shipped workflow and gives it the demo photo in a size, with the report of a node as output."""

    def read(name, side, reported):
        picture = Image.open(PHOTO).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        picture.save(tmp_path / "demo.png")
        prompt = json.loads((API / f"{name}.json").read_text(encoding="utf-8"))
        (loader,) = nodes_of_class(prompt, "LoadImage")
        prompt[loader]["inputs"]["image"] = client.upload_image(tmp_path / "demo.png")
        (node,) = nodes_of_class(prompt, reported)
        prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [node, 0 if reported == QUALITY else 1]}}
        return prompt, prompt[node]["inputs"]

    return read


def finished(client, prompt):
    run = client.run(prompt)
    assert run.succeeded, run.error
    return run, json.loads(run.outputs["report"]["text"][0])


def shown(client, run, prompt, source, name):
    """Pixels of the preview or saved picture of a node's output; kept for a look where ADAPTIVESR_OUT says so."""
    node_id = next(key for key, node in prompt.items() if node["inputs"].get("images") == source)
    pixels = fetch_pixels(client, run.outputs[node_id]["images"][0])
    if os.environ.get("ADAPTIVESR_OUT"):
        Image.fromarray(pixels).save(Path(os.environ["ADAPTIVESR_OUT"]) / f"{name}.png")
    return pixels


def test_measuring_shows_that_the_embedded_weights_beat_lanczos(client, workflow):
    prompt, _ = workflow("image_quality", 256, QUALITY)
    run, report = finished(client, prompt)
    assert report["labels"] == ["this upscaler", "Lanczos"] and report["left_out"] == {}
    assert [*report["metrics"]] == ["psnr", "ssim", "nlpd", "gmsd", "piqe"]
    for name in ("psnr", "ssim", "nlpd", "gmsd"):
        entry = report["metrics"][name]
        ours, lanczos = entry["values"][0], entry["compared"][0]
        assert (ours > lanczos) == (entry["better"] == "higher"), name
    (quality,) = nodes_of_class(prompt, QUALITY)
    (degrade,) = nodes_of_class(prompt, "AdaptiveSRRealWorldDegradation")
    (upscale,) = nodes_of_class(prompt, UPSCALE)
    assert shown(client, run, prompt, [quality, 2], "quality_bars").shape[1] == 768
    assert shown(client, run, prompt, [degrade, 0], "quality_small").shape == (64, 64, 3)
    assert shown(client, run, prompt, [upscale, 0], "quality_result").shape == (256, 256, 3)


def test_the_one_box_runs_without_any_file(client, workflow):
    prompt, inputs = workflow("adaptive_upscale", 64, UPSCALE)
    inputs["scale"] = 2.5
    run, report = finished(client, prompt)
    (upscale,) = nodes_of_class(prompt, UPSCALE)
    assert shown(client, run, prompt, [upscale, 0], "adaptive").shape == (160, 160, 3)
    assert (report["way"], report["preset"], report["output"]) == ("one step", "Balanced", "160x160")


def test_the_one_box_with_a_checkpoint_keeps_the_picture(client, workflow):
    prompt, inputs = workflow("adaptive_upscale", 96, UPSCALE)
    prompt["checkpoint"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SMALL_SD2}}
    inputs.update(model=["checkpoint", 0], vae=["checkpoint", 2], scale=2.0, preset="Fast", tile_size=128, denoise=0.05)
    run, report = finished(client, prompt)
    (upscale,) = nodes_of_class(prompt, UPSCALE)
    pixels = shown(client, run, prompt, [upscale, 0], "adaptive_model").astype(float)
    assert pixels.shape == (192, 192, 3) and report["way"] == "regions"
    assert report["region_calls"] <= report["fixed_region_calls"] == 10 * report["tiles"]
    # the small VAE keeps means of 8 x 8 pixels
    photo = Image.open(PHOTO).convert("RGB").resize((24, 24), Image.Resampling.BOX).resize((192, 192))
    assert np.corrcoef(pixels.ravel(), np.asarray(photo, dtype=float).ravel())[0, 1] > 0.9


def test_what_does_not_go_together_is_a_sentence_on_the_node(client, workflow):
    prompt, inputs = workflow("adaptive_upscale", 16, UPSCALE)
    prompt["checkpoint"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SMALL_SD2}}
    inputs["model"] = ["checkpoint", 0]
    run = client.run(prompt)
    assert not run.succeeded and "Got a MODEL without a VAE" in run.error
