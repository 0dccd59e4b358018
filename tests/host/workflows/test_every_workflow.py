"""Every shipped workflow on small networks: pictures of odd sizes, and three pictures at once."""

import json
from pathlib import Path

import pytest
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.fuzz.sizes import (
    CASES,
    SIZES,
    SWEPT,
    TRAINING,
    UPSCALING,
    expected_size,
    gradient,
    outcome_of_size,
    saved_sizes,
    short_workflow,
)

SHIPPED = sorted(file.stem for file in (Path(__file__).resolve().parents[3] / "workflows" / "api").glob("*.json"))
ENCODED = ("adadiffsr", "invsr_steps", "tiled_region_upscale", "tasr_training_free")
"""Workflows that go through VAE Encode or a ControlNet's hint, one of each kind."""


def test_the_lists_name_every_workflow():
    assert sorted([*UPSCALING, *TRAINING]) == SHIPPED
    assert len(CASES) == 1470 and {side for size in SIZES for side in size} >= set(range(1, 70, 2))


@pytest.mark.parametrize("name", SWEPT)
def test_a_picture_of_33_x_17_comes_out_exactly_as_many_times_larger(client, tmp_path, name):
    assert outcome_of_size(client, tmp_path, name, (33, 17)) == "exact"


@pytest.mark.parametrize("size", [(1, 1), (1, 69), (69, 7)])
@pytest.mark.parametrize("name", ENCODED)
def test_narrow_pictures_too(client, tmp_path, name, size):
    assert outcome_of_size(client, tmp_path, name, size) == "exact"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_workflow_takes_three_pictures(client, tmp_path, name):
    size = (80, 72) if name in TRAINING else (21, 16)
    file = gradient(tmp_path / f"three_{name}.gif", size, frames=3)
    prompt = short_workflow(name, client.upload_image(file), size[0], run="three_pictures")
    run = client.run(prompt, timeout=120)
    assert run.succeeded, run.error
    if nodes_of_class(prompt, "SaveImage"):
        assert saved_sizes(client, prompt, run.outputs) == [expected_size(prompt, name, size)] * 3
    for report in (json.loads(run.outputs[node]["text"][0]) for node in nodes_of_class(prompt, "PreviewAny")):
        assert report
