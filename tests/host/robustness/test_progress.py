"""A node's bar only rises, however many bars the host and the node make inside of it."""

import pytest
import torch


@pytest.fixture
def shown(comfy, monkeypatch):
    """Shares that reach the page."""
    from comfy import utils

    shares = []
    monkeypatch.setattr(utils, "PROGRESS_BAR_HOOK", lambda value, total, *_rest, **_named: shares.append(value / total))
    return shares


def test_bars_inside_of_each_other_only_rise(comfy, shown):
    from comfy import utils

    progress = comfy.module("host.progress")
    before = utils.PROGRESS_BAR_HOOK
    with progress.rising():
        for first, last in ((0.0, 0.5), (0.5, 0.75), (0.75, 1.0)):
            progress.stage(first, last)
            for total in (2, 5):
                bar = utils.ProgressBar(total)
                for step in range(total + 1):
                    bar.update_absolute(step, total, preview="a preview is never held back")
    assert utils.PROGRESS_BAR_HOOK is before
    assert shown == sorted(shown) and shown[-1] == 1.0 and 0 < shown[1] <= 0.5


def test_one_bar_alone_shows_its_own_numbers(comfy, monkeypatch):
    from comfy import utils

    seen = []
    monkeypatch.setattr(utils, "PROGRESS_BAR_HOOK", lambda value, total, *_rest, **_named: seen.append((value, total)))
    with comfy.module("host.progress").rising():
        bar = utils.ProgressBar(3)
        for _ in range(3):
            bar.update(1)
    assert seen[0] == (1, 3) and seen[-1] == (3, 3)


@pytest.mark.parametrize("preset", ["Fast", "Best"])
def test_adaptive_upscales_bar_only_rises_and_gets_to_the_end(comfy, shown, preset):
    node = comfy.node("AdaptiveSRAdaptiveUpscale")
    settings = {
        entry.id: entry.default for entry in node.define_schema().inputs if getattr(entry, "default", None) is not None
    }
    node.execute(image=torch.rand(2, 9, 12, 3), **{**settings, "preset": preset})
    assert len(shown) >= 2 and shown == sorted(shown) and shown[-1] == 1.0
