"""Pictures that are cut into blocks: which workflows can be, the file that comes out, and what a second start does."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from adaptivesr.tools.demo import PHOTO
from adaptivesr.tools.evaluate import blocks
from adaptivesr.tools.evaluate import main as command
from adaptivesr.tools.evaluate.blocks import NotExactError, recipe_of
from PIL import Image

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "api" / "one_step_sr.json"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "large"
    place.mkdir()
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").crop((200, 60, 261, 107)).save(place / "pano.png")
    return place


@pytest.fixture
def evaluate(folder, tmp_path, source):
    def run(output, *words):
        words = [str(word) for word in ("--cut-above", 0.001, "--metrics", "", "--cpu", *words)]
        return command.main([str(WORKFLOW), "--input", str(folder), "--output", str(tmp_path / output), *words])

    return run


def result(folder):
    return tifffile.imread(folder / "pictures" / "pano.tif")


@pytest.mark.slow
def test_blocks_become_one_tiled_bigtiff_that_does_not_depend_on_the_cut(evaluate, folder, tmp_path, capsys):
    assert evaluate("whole", "--block", 100) == 0 and evaluate("cut", "--block", 20) == 0
    one, many = (result(tmp_path / name).astype(int) for name in ("whole", "cut"))
    assert one.shape == (188, 244, 3) and np.abs(one - many).max() <= 1 and (one != many).mean() < 1e-3
    with tifffile.TiffFile(tmp_path / "cut" / "pictures" / "pano.tif") as file:
        assert file.is_bigtiff and file.pages[0].is_tiled
    with Image.open(folder / "pano.png") as small:
        bicubic = np.asarray(small.resize((244, 188), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(many - bicubic).mean() < 6, "it is the picture"
    assert not (tmp_path / "cut" / "blocks").exists() or not any((tmp_path / "cut" / "blocks").iterdir())
    assert "61x47 in 12 blocks of 20" in capsys.readouterr().out
    assert evaluate("cut", "--block", 20) == 0 and "12 blocks of 20" not in capsys.readouterr().out, "done already"


@pytest.mark.slow
def test_a_second_start_computes_only_missing_blocks(evaluate, tmp_path, monkeypatch, capsys):
    made = []
    process = blocks.BlockWorker.process

    def counted(self, job):
        made.append(job.name)
        if len(made) == 5:
            raise KeyboardInterrupt
        return process(self, job)

    monkeypatch.setattr(blocks.BlockWorker, "process", counted)
    assert evaluate("stopped", "--block", 20) == 130 and len(made) == 5
    assert evaluate("stopped", "--block", 20) == 0 and len(made) == 5 + 8
    assert "4 of 12 pictures are done already; 8 are left" in capsys.readouterr().out
    monkeypatch.setattr(blocks.BlockWorker, "process", process)
    assert evaluate("at once", "--block", 20) == 0
    assert np.array_equal(result(tmp_path / "stopped"), result(tmp_path / "at once"))


@pytest.fixture
def prompt():
    return json.loads(WORKFLOW.read_text(encoding="utf-8"))


def test_the_shipped_workflow_can_be_cut(prompt):
    assert recipe_of(prompt) == blocks.BlockRecipe("embedded_one_step.safetensors", "wavelet", 5)


@pytest.mark.parametrize(
    ("kind", "inputs", "why"),
    [
        ("AdaptiveSRLoadOneStepSR", {"model_name": "TAD-SR.pth"}, "the weights 'TAD-SR.pth' see the whole tile"),
        ("AdaptiveSRLoadOneStepSR", {"model_name": "embedded: teacher, 15 steps"}, "see the whole tile"),
        ("AdaptiveSROneStepDistilledSR", {"scale": 3.0}, "scale is 3.0"),
        ("AdaptiveSROneStepDistilledSR", {"color_fix": "wavelet"}, "colours twice"),
        ("AdaptiveSRWaveletColorFix", {"mode": "adain"}, "takes statistics of the whole picture"),
        ("AdaptiveSRWaveletColorFix", {"image": ["3", 0]}, "the result comes from LoadImage"),
        ("AdaptiveSRWaveletColorFix", {"reference": ["4", 0]}, "is not the picture itself"),
    ],
)
def test_others_cannot_and_say_why(prompt, kind, inputs, why):
    changed = copy.deepcopy(prompt)
    next(node for node in changed.values() if node["class_type"] == kind)["inputs"].update(inputs)
    with pytest.raises(NotExactError, match=why.replace(".", r"\.")):
        recipe_of(changed)


def test_a_large_picture_of_another_workflow_is_set_aside_with_the_reason(evaluate, tmp_path):
    assert evaluate("other", "--set", "mode=adain") == 2
    page = (tmp_path / "other" / "results.md").read_text(encoding="utf-8")
    assert "`pano.png`: is larger than --cut-above, and cannot be cut into blocks: the colour fix adain" in page
