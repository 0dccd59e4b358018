"""What the page is told of a run: counts that are the report's, few and small messages, none where nobody looks."""

import json
from types import SimpleNamespace

import pytest
import torch
from adaptivesr.imaging.tiles import grid
from adaptivesr.sampling.adaptive.types import rows_of

REGIONS = grid(48, 80, 16, 4)  # 4 x 7
OUTPUT = "adaptivesr_regions"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sent(comfy, monkeypatch):
    """Messages that go out, as text: what the host would write to the socket. `server` is its side of it."""
    import server

    messages = []

    def send_sync(name, content, client):
        messages.append((name, client, json.dumps(content)))

    listener = SimpleNamespace(client_id="page", send_sync=send_sync)
    monkeypatch.setattr(server.PromptServer, "instance", listener, raising=False)
    return SimpleNamespace(messages=messages, server=listener)


@pytest.fixture
def display(comfy, clock):
    events = comfy.module("host.regions.events")

    def make(node="4:2", workflow="w"):
        return events.RegionDisplay(node, workflow, clock)

    return make


@pytest.fixture
def layout(comfy):
    def make(regions=REGIONS, images=1, steps=10, fixed_steps=10):
        return comfy.module("host.regions.events").RegionLayout((48, 80), regions, images, steps, fixed_steps)

    return make


def play(shown, clock, layout, seconds_per_call, steps=10):
    """A run in which every region makes every step, one at a time."""
    shown.start(layout)
    rows = rows_of(layout.regions, layout.images)
    for step in range(steps):
        for row in rows:
            clock.now += seconds_per_call
            shown.called([row])
        for row in rows:
            shown.moved(row, step + 1, "complete" if step + 1 == steps else "")
    shown.finish({"calls": steps * len(rows), "seconds": 1.5, "regions": [], "steps_per_region": []})


@pytest.mark.parametrize("seconds_per_call", [0.0005, 0.02, 0.5])
def test_at_most_five_messages_a_second_and_always_a_first_and_a_last(display, layout, clock, sent, seconds_per_call):
    began = clock.now
    play(display(), clock, layout(), seconds_per_call)
    messages = [json.loads(text) for _, _, text in sent.messages]
    assert {(name, client) for name, client, _ in sent.messages} == {("adaptivesr.regions", "page")}
    assert [messages[0]["phase"], messages[-1]["phase"]] == ["start", "end"]
    steps = [message for message in messages[1:-1] if message["phase"] == "step"]
    assert len(steps) == len(messages) - 2 <= min(5 * (clock.now - began), 280)
    assert steps or seconds_per_call == 0.0005, "a run of seconds was never shown"
    assert all(message["node"] == "4:2" and message["workflow"] == "w" for message in messages)


def test_the_time_left_is_that_of_the_pace_until_now(display, layout, clock, sent):
    play(display(), clock, layout(), 0.5)
    steps = [told for told in (json.loads(text) for _, _, text in sent.messages) if told["phase"] == "step"]
    assert [told["left"] for told in steps] == pytest.approx([140 * (1 - told["passed"]) for told in steps], abs=0.1)
    done = [told["done"] for told in steps]
    assert done[0] == 0 and done == sorted(done) and done[-1] == 28


def test_messages_are_small_and_name_the_regions_once(display, layout, clock, sent):
    play(display(), clock, layout(), 0.02)
    messages = [json.loads(text) for _, _, text in sent.messages]
    assert [len(message.get("regions", ())) for message in messages] == [28, *[0] * (len(messages) - 2), 28]
    assert max(len(text) for _, _, text in sent.messages[1:-1]) < 400


def test_messages_do_not_change_after_they_were_sent(display, layout, sent):
    import server

    kept = []
    server.PromptServer.instance.send_sync = lambda name, content, client: kept.append((content, json.dumps(content)))
    shown, chosen = display(), layout()
    shown.start(chosen)
    for row in rows_of(chosen.regions, 1):
        shown.called([row])
    assert all(json.dumps(content) == text for content, text in kept)


def test_nobody_who_looks_means_no_message_and_the_same_output(display, layout, clock, sent):
    seen, unseen, nameless = display(), display(), display(node=None)
    play(seen, clock, layout(), 0.1)
    sent.messages.clear()
    play(nameless, clock, layout(), 0.1)
    sent.server.client_id = None
    play(unseen, clock, layout(), 0.1)
    assert sent.messages == []
    assert unseen.ui == seen.ui == nameless.ui


def test_states_follow_a_region(display, layout, clock, sent):
    shown, chosen = display(), layout(regions=REGIONS[:4])
    letters = iter("GSH")
    shown.start(chosen, lambda row: next(letters))
    first, second, third, _ = rows_of(chosen.regions, 1)

    def states():
        clock.now += 1
        shown.called([])
        return json.loads(sent.messages[-1][2])

    shown.called([first, second, third])
    assert states()["states"] == ["aaa."]
    for row, level in ((first, 1), (second, 4), (third, 2)):
        shown.moved(row, level, "")
    told = states()
    assert told["states"] == ["gsh."] and told["counts"] == [[1, 1, 1, 0]]
    assert told["saved"] == pytest.approx(1 - 3 / 7, abs=1e-4) and told["passed"] == pytest.approx(7 / 40, abs=1e-4)
    shown.moved(second, 10, "budget")
    shown.moved(third, 10, "saturated")
    assert states()["states"] == ["gbx."]


def test_too_many_images_or_regions_to_draw_leave_totals(display, layout, clock):
    many = display()
    play(many, clock, layout(images=100), 0.1, steps=2)
    told = json.loads(many.ui[OUTPUT][0])
    assert len(told["counts"]) == len(told["states"]) == 2048 // 28 and told["images"] == 100
    assert told["region_calls"] == 2 * 100 * 28
    fine = display()
    play(fine, clock, layout(regions=grid(512, 512, 8, 0)), 0.1, steps=1)
    told = json.loads(fine.ui[OUTPUT][0])
    assert (told["regions"], told["counts"], told["tiles"], told["calls"]) == ([], [], 4096, 4096)


@pytest.mark.parametrize("info", [None, "text", {}, {"workflow": None}, {"workflow": ["id"]}, {"workflow": {"id": 7}}])
def test_programs_may_send_anything_as_workflow(comfy, info):
    assert comfy.module("host.regions.events").workflow_id_of(info) is None
    assert comfy.module("host.regions.events").workflow_id_of({"workflow": {"id": "x"}}) == "x"


@pytest.fixture
def run(comfy, patcher, prompts):
    """Tiled Region Sampler: (its report, what its output says to the page)."""

    def call(**inputs):
        latent = {"samples": torch.zeros(2, 4, 16, 32)}
        latent["samples"][..., 16:] = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
        values = {
            "seed": 5, "steps": 12, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.6,
            "tile_size": 128, "overlap": 32, "merge_mode": "consensus", **inputs,
        }  # fmt: skip
        node = comfy.node("AdaptiveSRTiledRegionSampler")
        with torch.inference_mode():
            output = node.execute(patcher("eps"), prompts(1), prompts(2), latent, **values)
        return json.loads(output.args[2]), json.loads(output.ui[OUTPUT][0])

    return call


@pytest.mark.parametrize("merge_mode", ["aggregate", "consensus", "final"])
@pytest.mark.parametrize("kind", ["fixed", "budget", "gain"])
def test_the_output_of_a_run_is_its_report(comfy, run, kind, merge_mode):
    inputs = {"merge_mode": merge_mode, "region_batch": 3}
    if kind != "fixed" and merge_mode == "aggregate":
        pytest.skip("regions that go in step have no steps of their own")
    if kind == "budget":
        inputs["budget"] = torch.linspace(0, 1, 32).expand(1, 16, 32)
    if kind == "gain":
        node = comfy.node("AdaptiveSRMMLEGainEstimator")
        values = {entry.id: entry.default for entry in node.define_schema().inputs if not entry.optional}
        inputs["gain"] = node.execute(**{**values, "back_end": "proxies", "tau": 0.5}).args[0]
    report, told = run(**inputs)
    assert told["counts"] == report["steps_per_region"] and told["regions"] == report["regions"]
    assert (told["calls"], told["region_calls"]) == (report["calls"], report["region_calls"])
    assert told["saved"] == report["skipped"] and (told["saved"] > 0) == (kind != "fixed")
    assert told["passed"] == 1 and told["states"] == ["c" * report["tiles"]] * 2
    assert told.get("classes") == report.get("classes") and told.get("exits") == report.get("exits_per_region")
    assert told["report"]["seconds"] == report["seconds"] and "gains" not in told["report"]
