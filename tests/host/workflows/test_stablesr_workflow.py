"""The shipped StableSR workflows, queued on a server of their own with small files in the published layouts."""

import copy
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.cfw import SMALL_CFW, put_small_cfw
from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint, with_small_checkpoint
from adaptivesr.tools.small_models.stablesr import SMALL_STABLESR, put_small_stablesr
from adaptivesr.tools.small_models.tiny import fetch_pixels
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PHOTO = ROOT / "tools" / "demo_photo" / "astronaut.png"
WIDTH, HEIGHT = 40, 32
BY_PARTS = Path(__file__).with_name("stablesr_by_parts.json")
"""StableSR out of its parts and the host's own nodes, as an API graph."""
SMALL = {
    "AdaptiveSRLoadStableSR": {"model_name": SMALL_STABLESR},
    "AdaptiveSRLoadCFW": {"cfw_name": SMALL_CFW},
    "AdaptiveSRRegionSampler": {"tile_size": 64, "overlap": 32, "region_batch": 4},
    "AdaptiveSRStableSRUpscale": {"tile_size": 64},
}


@pytest.fixture(scope="module")
def server():
    """A host with the small files and a thumbnail of the demo photo."""

    def prepare(base):
        put_small_checkpoint(base)
        put_small_stablesr(base)
        put_small_cfw(base)
        photo = Image.open(PHOTO).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        photo.save(base / "input" / "example.png")

    with devserver.running_host(Path(os.environ["ADAPTIVESR_HOST"]), prepare=prepare, quiet=True) as running:
        yield running


def workflow(name, **changes):
    """The shipped graph on the small files; changes are inputs by class name."""
    return on_small_files(ROOT / "workflows" / "api" / f"{name}.json", changes)


def by_parts(**changes):
    """The same of the graph that is built from parts."""
    return on_small_files(BY_PARTS, changes)


def on_small_files(path, changes):
    prompt = with_small_checkpoint(json.loads(path.read_text(encoding="utf-8")))
    for node in prompt.values():
        node["inputs"] |= SMALL.get(node["class_type"], {}) | changes.get(node["class_type"], {})
    return prompt


def saved(client, prompt):
    run = client.run(prompt)
    assert run.succeeded, run.error
    (node_id,) = nodes_of_class(prompt, "SaveImage")
    return fetch_pixels(client, run.outputs[node_id]["images"][0]), run


def keep_for_eyes(name, pixels):
    if os.environ.get("ADAPTIVESR_OUT"):
        Image.fromarray(pixels).save(Path(os.environ["ADAPTIVESR_OUT"]) / f"{name}.png")


def enlarged():
    photo = Image.open(PHOTO).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return np.asarray(photo.resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.BICUBIC), dtype=float)


def likeness(pixels):
    return np.corrcoef(pixels.astype(float).ravel(), enlarged().ravel())[0, 1]


@pytest.mark.parametrize("name", ["stablesr", "stablesr_turbo"])
def test_shipped_graphs_give_exactly_four_times_the_picture(client, name):
    pixels, _run = saved(client, workflow(name, AdaptiveSRStableSRUpscale={"steps": 4, "color_fix": "wavelet"}))
    assert pixels.shape == (4 * HEIGHT, 4 * WIDTH, 3) and likeness(pixels) > 0.9
    keep_for_eyes(name, pixels)


def test_parts_run_and_again_the_same(client):
    prompt = by_parts(AdaptiveSRSpacedSigmas={"steps": 4})
    first, run = saved(client, prompt)
    assert first.shape == (4 * HEIGHT, 4 * WIDTH, 3) and likeness(first) > 0.9
    (sampler,) = nodes_of_class(prompt, "SamplerCustomAdvanced")
    steps = [event.data for event in run.events if event.kind == "progress" and event.data["node"] == sampler]
    assert steps[-1]["value"] == steps[-1]["max"] == 4 * 12  # steps, and regions of 64 pixels on 160 x 128
    client.post("/free", {"unload_models": True, "free_memory": True})  # so that nothing comes out of a cache
    time.sleep(1.0)
    again, run = saved(client, prompt)
    assert any(event.kind == "progress" and event.data["node"] == sampler for event in run.events)
    assert np.array_equal(again, first)


def test_the_papers_chain_runs_with_guidance_and_every_part_counts(client):
    settings = {"AdaptiveSRSpacedSigmas": {"steps": 3}, "CFGGuider": {"cfg": 3.0}}
    whole, _ = saved(client, by_parts(**settings))
    assert whole.shape == (4 * HEIGHT, 4 * WIDTH, 3) and likeness(whole) > 0.9
    without_cfw, _ = saved(client, by_parts(**settings, AdaptiveSRCFWDecode={"w": 0.0}))
    without_parts, _ = saved(client, by_parts(**settings, AdaptiveSRStableSRApply={"strength": 0.0}))
    assert not np.array_equal(without_cfw, whole) and not np.array_equal(without_parts, whole)
    assert likeness(whole) > likeness(without_cfw)  # the small fusion brings the LR image back


def test_decoding_in_tiles_runs_from_the_api(client):
    settings = {"AdaptiveSRSpacedSigmas": {"steps": 1}, "AdaptiveSRCFWDecode": {"tile": 64, "overlap": 32}}
    pixels, _ = saved(client, by_parts(**settings))
    assert likeness(pixels) > 0.9


def test_a_wrong_vae_is_told_on_the_node(client):
    prompt = workflow("stablesr_turbo", AdaptiveSRStableSRUpscale={"steps": 1})
    (upscaler,) = nodes_of_class(prompt, "AdaptiveSRStableSRUpscale")
    (checkpoint,) = nodes_of_class(prompt, "CheckpointLoaderSimple")
    wrong = copy.deepcopy(prompt)
    wrong[upscaler]["inputs"]["vae"] = [checkpoint, 2]
    run = client.run(wrong)
    assert not run.succeeded
    assert "CFW Decode got a VAE of another kind (TAESD): expected the KL autoencoder" in str(run.error)
