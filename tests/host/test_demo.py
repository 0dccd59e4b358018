"""What `dev.py demo` does between starting and stopping the server."""

import json

from adaptivesr.tools import demo
from PIL import Image


def test_the_demo_upscales_its_photo_better_than_bicubic(server, client, tmp_path, capsys):
    truth = Image.open(demo.PHOTO).convert("RGB")
    small = demo.shrink(truth, demo.SCALE)
    small.save(tmp_path / "small.png")
    prompt = demo.load_prompt(demo.WORKFLOW)
    after, seconds = demo.upscale(client, prompt, tmp_path / "small.png", demo.show_progress)
    assert after.size == truth.size
    result = demo.report(truth, small, after, seconds, tmp_path)
    assert result.psnr > result.psnr_bicubic
    assert Image.open(result.before).size == Image.open(result.after).size == truth.size
    assert "dB" in capsys.readouterr().out


def test_the_last_line_of_the_demo_has_the_promised_keys():
    result = demo.DemoResult(1.0, 2.0, 3.0, "before.png", "after.png")
    assert set(json.loads(demo.as_line(result))) == {"seconds", "psnr", "psnr_bicubic", "before", "after"}
