"""The record of a run, as numbers and as a picture."""

import json

import pytest
import torch


@pytest.fixture(scope="session")
def node(comfy):
    return comfy.node("AdaptiveSRAdapterMap")


@pytest.fixture
def draw(comfy):
    return comfy.module("host.control.adapter_map").adapter_map


def summary(**changes):
    sites = {"middle": [1.5, 1.0, 0.5, 0.0], "decoder 0": [1.0, 1.0, 0.25, 0.0]}
    values = {"calls": 3, "skipped": 1, "saved": 0.25, "timesteps": [999, 666, 333, 0], "silent": [0], "sites": sites}
    return {**values, **changes}


def test_the_report_counts_and_the_map_has_a_row_for_each_site(parts, patcher, apply, sample, node):
    made = parts.time_aware(parts.control, "off_late", adapters=parts.adapters())
    samples = sample(patcher(), apply(made), steps=20)
    picture, text = node.execute(made, {"samples": samples}).args
    report = json.loads(text)
    assert (report["calls"], report["skipped"]) == (16, 4)
    assert list(report["sites"]) == ["middle", "decoder 0", "decoder 1", "decoder 2", "decoder 3"]
    assert all(len(values) == 20 for values in report["sites"].values())
    assert report["timesteps"][0] == 999 and report["timesteps"][-1] == 0
    assert picture.shape[0] == 1 and picture.shape[2:] == (1024, 3) and 0.0 <= picture.min() <= picture.max() <= 1.0


def test_gates_are_the_means_of_the_maps(parts, patcher, apply, sample):
    made = parts.time_aware(parts.control, adapters=parts.adapters(zero=True))
    sample(patcher(), apply(made), steps=3)
    assert all(values == [1.0] * 3 for values in made.record.summary()["sites"].values())


def test_a_new_run_forgets_the_old_one(parts, patcher, apply, sample):
    made = parts.time_aware(parts.control, "off_late")
    sample(patcher(), apply(made), steps=20)
    sample(patcher(), apply(made), steps=5)
    assert made.record.summary()["calls"] + made.record.summary()["skipped"] == 5


def test_cells_have_the_colours_of_their_numbers(comfy, draw):
    from adaptivesr.imaging.heatmap import colorize

    layout = comfy.module("host.control.adapter_map")
    picture = draw(summary())[0]
    column = (layout.WIDTH - layout.LABELS - layout.MARGIN) / 4
    top = layout.HEADER + layout.CURVE
    for row, values in enumerate(summary()["sites"].values()):
        for index, value in enumerate(values[:3]):
            pixel = picture[top + row * layout.ROW + 3, int(layout.LABELS + index * column + 4)]
            torch.testing.assert_close(pixel, colorize(torch.tensor(value), 0.0, 2.0), atol=2 / 255, rtol=0)
    dark = picture[top + 3, int(layout.LABELS + 3 * column + 4)]
    assert float(dark.max()) < 0.2  # no call was made there


def test_schedules_are_drawn_to_1_and_long_runs_are_thinned(comfy, draw):
    layout = comfy.module("host.control.adapter_map")
    times = list(range(999, 799, -1))
    long = summary(timesteps=times, silent=[], sites={"all sites": [0.5] * 200})
    kept = layout.thinned(long)
    assert len(kept["timesteps"]) == layout.MOST_COLUMNS == len(kept["sites"]["all sites"])
    assert (kept["timesteps"][0], kept["timesteps"][-1]) == (999, 800)
    assert draw(long).shape == (1, layout.HEADER + layout.CURVE + layout.ROW + layout.TIMES + layout.SCALE, 1024, 3)


def test_runs_of_one_step_and_of_silence_only(draw):
    draw(summary(timesteps=[999], silent=[], sites={"middle": [0.7]}))
    draw(summary(calls=0, skipped=1, timesteps=[0], silent=[0], sites={}))


def test_nothing_to_show_is_a_sentence(parts, node, ordinary):
    with pytest.raises(ValueError, match="No sampling run has used"):
        node.execute(parts.time_aware(parts.control), {"samples": torch.zeros(1, 4, 8, 8)})
    with pytest.raises(ValueError, match="got a ControlNet, which keeps no record"):
        node.execute(ordinary, {"samples": torch.zeros(1, 4, 8, 8)})
