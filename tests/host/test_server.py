"""Round trips through a real server, as API users see it."""

import time

import numpy as np
import pytest
from adaptivesr.tools.env.client import PromptRejectedError
from adaptivesr.tools.small_models.tiny import BROKEN, STUDENT, TEACHER, fetch_pixels, one_step_prompt

OUR_IDS = {
    "AdaptiveSREmptyPrompt",
    "AdaptiveSRLoadOneStepSR",
    "AdaptiveSROneStepDistilledSR",
    "AdaptiveSRResShiftConditioning",
    "AdaptiveSRWaveletColorFix",
}


def forget_everything(client):
    """Unloads the models and empties the host's caches, so that the next run computes again."""
    client.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.0)


def cached_nodes(run):
    return {node for event in run.events if event.kind == "execution_cached" for node in event.data["nodes"]}


def upscaled(client, prompt):
    run = client.run(prompt)
    assert run.succeeded, run.error
    return fetch_pixels(client, run.outputs["save"]["images"][0])


def error_on(client, prompt, node_id):
    """The sentence that a run shows on a node; it must be one, not a traceback or a bare exception name."""
    run = client.run(prompt)
    assert not run.succeeded
    assert run.events[-1].data["node_id"] == node_id
    assert "Traceback" not in run.error and len(run.error.split()) > 5
    return run.error


def test_every_node_is_listed_with_a_description_and_tooltips(client):
    info = {name: node for name, node in client.object_info().items() if name.startswith("AdaptiveSR")}
    assert set(info) >= OUR_IDS
    for name, node in info.items():
        assert node["description"], name
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        assert [key for key, (_, *options) in inputs.items() if not (options and options[0].get("tooltip"))] == [], name


def test_the_help_page_of_every_node_is_served(client):
    for name in client.object_info():
        if name.startswith("AdaptiveSR"):
            assert client.request(f"/extensions/ComfyUI-AdaptiveSR/docs/{name}.md").startswith(b"#")


def test_a_queued_prompt_reports_progress_and_saves_four_times_the_size(client, photo):
    prompt = one_step_prompt(client, client.upload_image(photo(24, 17)), TEACHER)
    run = client.run(prompt)
    assert run.succeeded, run.error
    progress = [event.data for event in run.events if event.kind == "progress" and event.data["node"] == "upscale"]
    assert progress and progress[-1]["value"] == progress[-1]["max"]
    values = [data["value"] for data in progress]
    assert values == sorted(values)
    assert fetch_pixels(client, run.outputs["save"]["images"][0]).shape == (4 * 17, 4 * 24, 3)


def test_two_runs_in_one_server_are_equal(client, photo):
    prompt = one_step_prompt(client, client.upload_image(photo(20, 20)), seed=11)
    first = upscaled(client, prompt)
    forget_everything(client)
    run = client.run(prompt)
    assert run.succeeded and "upscale" not in cached_nodes(run)
    assert np.array_equal(fetch_pixels(client, run.outputs["save"]["images"][0]), first)
    assert not np.array_equal(upscaled(client, one_step_prompt(client, "photo.png", seed=12)), first)


def test_a_cancelled_run_stops_at_once_and_the_next_one_is_clean(client, photo):
    small = one_step_prompt(client, client.upload_image(photo(20, 20, "small.png")), seed=3)
    expected = upscaled(client, small)
    long = one_step_prompt(client, client.upload_image(photo(512, 512, "large.png")), TEACHER, tile=64, seed=4)
    asked = []

    def cancel(event):
        if event.kind == "progress" and event.data["node"] == "upscale" and not asked:
            client.interrupt()
            asked.append(time.monotonic())

    run = client.run(long, on_event=cancel)
    assert run.events[-1].kind == "execution_interrupted"
    assert time.monotonic() - asked[0] < 5.0
    forget_everything(client)
    assert np.array_equal(upscaled(client, small), expected)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 33), (8, 8), (37, 5)])
def test_odd_sizes_are_upscaled_exactly(client, photo, width, height):
    prompt = one_step_prompt(client, client.upload_image(photo(width, height, f"{width}x{height}.png")))
    assert upscaled(client, prompt).shape == (4 * height, 4 * width, 3)


def test_a_truncated_file_is_a_sentence_on_the_loader_and_the_graph_stays_usable(client, photo):
    name = client.upload_image(photo(16, 16))
    assert BROKEN in error_on(client, one_step_prompt(client, name, BROKEN), "load")
    assert client.run(one_step_prompt(client, name)).succeeded


def test_steps_that_the_weights_do_not_know_are_a_sentence_on_the_node(client, photo):
    prompt = one_step_prompt(client, client.upload_image(photo(16, 16)), STUDENT, steps=5)
    assert "steps = 5" in error_on(client, prompt, "upscale")


@pytest.mark.parametrize("inputs", [{"scale": 1000.0}, {"steps": -1}, {"color_fix": "sepia"}, {"tile": "wide"}])
def test_values_outside_their_range_are_refused_before_anything_runs(client, photo, inputs):
    prompt = one_step_prompt(client, client.upload_image(photo(16, 16)), **inputs)
    with pytest.raises(PromptRejectedError) as refused:
        client.queue(prompt)
    assert [*refused.value.node_errors] == ["upscale"]
    assert next(iter(inputs)) in refused.value.node_errors["upscale"][0]
