"""Pictures that are cut into blocks: which workflows can be, the file that comes out, and what a second start does."""

import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from adaptivesr.imaging.color import ColorFix, match_color
from adaptivesr.tools.bench import seams
from adaptivesr.tools.demo import PHOTO
from adaptivesr.tools.env.steps import StepError
from adaptivesr.tools.evaluate import blocks, overlapping
from adaptivesr.tools.evaluate import main as command
from adaptivesr.tools.evaluate.assemble import assemble
from adaptivesr.tools.evaluate.blocks import CannotCutError, recipe_of
from adaptivesr.tools.evaluate.graph import cut_down
from adaptivesr.tools.evaluate.pictures import Picture, as_png
from adaptivesr.tools.evaluate.worker import DONE, FAILED, PictureOutcome
from PIL import Image

FIX = "AdaptiveSRWaveletColorFix"
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
    threads = torch.get_num_threads()
    assert evaluate("whole", "--block", 100) == 0 and evaluate("cut", "--block", 20, "--threads", threads + 1) == 0
    assert torch.get_num_threads() == threads, "a setting of this process, not of the run"
    one, many = (result(tmp_path / name).astype(int) for name in ("whole", "cut"))
    assert one.shape == (188, 244, 3) and np.abs(one - many).max() <= 1 and (one != many).mean() < 1e-3
    with tifffile.TiffFile(tmp_path / "cut" / "pictures" / "pano.tif") as file:
        assert file.is_bigtiff and file.pages[0].is_tiled
    with Image.open(folder / "pano.png") as small:
        bicubic = np.asarray(small.resize((244, 188), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(many - bicubic).mean() < 6, "it is the picture"
    assert not (tmp_path / "cut" / "blocks").exists() or not any((tmp_path / "cut" / "blocks").iterdir())
    assert "61x47 in 12 blocks of 20" in capsys.readouterr().out
    assert evaluate("cut", "--block", 20) == 0 and "61x47 in 12 blocks" not in capsys.readouterr().out, "done already"


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


def test_upscale_alone_can_be_cut_too():
    prompt = cut_down(json.loads(WORKFLOW.with_name("adaptive_upscale.json").read_text(encoding="utf-8")), {})[0]
    assert recipe_of(prompt) == blocks.BlockRecipe("embedded_one_step.safetensors", "wavelet", 5)
    box = next(node for node in prompt.values() if node["class_type"] == "AdaptiveSRAdaptiveUpscale")
    box["inputs"]["preset"] = "Best"
    with pytest.raises(CannotCutError, match="'Best' of Upscale averages turned pictures"):
        recipe_of(prompt)
    box["inputs"]["model"] = ["2", 0]
    with pytest.raises(CannotCutError, match="Upscale has model connected"):
        recipe_of(prompt)


@pytest.mark.parametrize(
    ("kind", "inputs", "why"),
    [
        ("AdaptiveSRLoadOneStepSR", {"model_name": "TAD-SR.pth"}, "the weights 'TAD-SR.pth' see the whole tile"),
        ("AdaptiveSRLoadOneStepSR", {"model_name": "embedded: teacher, 15 steps"}, "see the whole tile"),
        ("AdaptiveSROneStepDistilledSR", {"scale": 3.0}, "scale is 3.0"),
        ("AdaptiveSROneStepDistilledSR", {"color_fix": "wavelet"}, "colours twice"),
        ("AdaptiveSRWaveletColorFix", {"mode": "sepia"}, "the colour fix sepia is not known"),
        ("AdaptiveSRWaveletColorFix", {"image": ["3", 0]}, "the result comes from LoadImage"),
        ("AdaptiveSRWaveletColorFix", {"reference": ["4", 0]}, "is not the picture itself"),
    ],
)
def test_others_cannot_and_say_why(prompt, kind, inputs, why):
    changed = copy.deepcopy(prompt)
    next(node for node in changed.values() if node["class_type"] == kind)["inputs"].update(inputs)
    with pytest.raises(CannotCutError, match=why.replace(".", r"\.")):
        recipe_of(changed)


def test_a_large_picture_of_another_workflow_is_set_aside_with_the_reason(evaluate, tmp_path):
    assert evaluate("other", "--set", "scale=3.0") == 2
    page = (tmp_path / "other" / "results.md").read_text(encoding="utf-8")
    assert "`pano.png`: is larger than --cut-above, and cannot be cut into blocks: scale is 3.0" in page


REGIONS = WORKFLOW.with_name("tiled_region_upscale.json")


@pytest.fixture
def regions():
    """The shipped workflow of the region sampler, cut down to its result."""
    return cut_down(json.loads(REGIONS.read_text(encoding="utf-8")), {})[0]


@pytest.mark.parametrize(
    ("kind", "inputs", "why"),
    [
        (
            "AdaptiveSRWaveletColorFix",
            {"mode": "lab", "reference": ["9", 0]},
            "the reference of the colour fix lab is not the picture itself",
        ),
        ("AdaptiveSRPadOrCrop", {"class_type": FIX, "mode": "adain"}, "adain takes statistics .* not the last node"),
        ("ImageScale", {"height": 512}, "ImageScale sets width and height, whatever comes in: expected ImageScaleBy"),
        ("AdaptiveSRTiledRegionSampler", {"budget": ["3", 1]}, "a mask of the whole picture"),
        ("VAEDecode", {"noise_seed": 1}, "the noise of VAEDecode belongs to the whole picture"),
        ("VAEEncode", {"megapixels": 2.0}, "VAEEncode sets megapixels"),
    ],
)
def test_the_region_sampler_is_cut_unless_something_is_of_the_whole_picture(regions, kind, inputs, why):
    overlapping.check(regions)
    node = next(node for node in regions.values() if node["class_type"] == kind)
    node["class_type"] = inputs.pop("class_type", kind)
    node["inputs"].update(inputs)
    with pytest.raises(CannotCutError, match=why):
        overlapping.check(regions)


@pytest.mark.parametrize("mode", ["adain", "lab"])
def test_statistics_of_colours_are_the_whole_pictures_though_it_comes_in_blocks(prompt, folder, mode):
    """Of blocks with values of 16 bits, against the colours of the whole result fixed at once."""
    node = next(node for node in prompt.values() if node["class_type"] == FIX)
    node["inputs"]["mode"] = mode
    cut = blocks.ExactCut(recipe_of(prompt), 20)
    with Image.open(folder / "pano.png") as image:
        levels = np.asarray(image)
    height, width = levels.shape[:2]
    noise = np.random.default_rng(6)
    dull = levels.repeat(4, 0).repeat(4, 1) / 510 + noise.normal(0.1, 0.1, (4 * height, 4 * width, 3))
    result = torch.from_numpy(np.float32(np.clip(dull, 0, 1)))
    picture = Picture("pano.png", folder / "pano.png", "pano.png")
    parts, _ = cut.parts(picture, folder / "blocks", (height, width))
    for part in parts:
        content = blocks.in_levels(result[part.kept.scaled(4).slices], np.uint16).tobytes()
        cut.keeper().save(part, PictureOutcome(part.name, DONE, image=content), "-")
    assemble(parts, (height, width), folder / "pano.tif", cut.colors(levels))
    whole, reference = (rgb.movedim(2, 0)[None] for rgb in (result, torch.from_numpy(np.float32(levels / 255))))
    wanted = match_color(whole, reference, ColorFix(mode)).clamp(0, 1)[0].movedim(0, 2)
    found = tifffile.imread(folder / "pano.tif").astype(int)
    far = np.abs(found - blocks.in_levels(wanted, np.uint8))
    assert far.max() <= 1 and (far > 0).mean() < 0.02, "where the last bits decide what is cut off"
    plain = np.abs(blocks.in_levels(result, np.uint8) - found.astype(float)).mean()
    assert plain > 10, "the colours did change"


def test_colours_of_blocks_that_overlap_are_fixed_when_they_are_put_together(regions, tmp_path):
    node = next(key for key, node in regions.items() if node["class_type"] == FIX)
    regions[node]["inputs"]["mode"] = "adain"
    levels = np.asarray(Image.open(PHOTO).convert("RGB"))[60:188, 200:456]
    Image.fromarray(levels).save(tmp_path / "p.png")
    cut = overlapping.OverlappingCut(regions, 128, 32)
    overlapping.check(regions)
    parts, _ = cut.parts(Picture("p.png", tmp_path / "p.png", "p.png"), tmp_path / "blocks", levels.shape[:2])
    job_for = cut.jobs(parts, levels, 5)
    dull = (levels // 2 + 40).repeat(3, 0).repeat(3, 1)
    for part in parts:
        assert job_for(part).changes["11"] == {"images": regions[node]["inputs"]["image"]}, "no fix of a block alone"
        outer = part.core.outer.scaled(3)
        result = as_png(dull[outer.slices].astype(np.float32) / 255)
        size = (outer.width, outer.height)
        cut.keeper().save(part, PictureOutcome(part.name, DONE, image=result, result_size=size), "-")
    assemble(parts, (levels.shape[0], levels.shape[1]), tmp_path / "p.tif", cut.colors(levels))
    found = tifffile.imread(tmp_path / "p.tif") / 255
    for channel in range(3):
        assert found[..., channel].mean() == pytest.approx((levels[..., channel] / 255).mean(), abs=0.01)
        assert found[..., channel].std() == pytest.approx((levels[..., channel] / 255).std(), abs=0.01)


def test_parts_know_their_place_and_come_together_without_a_trace_where_they_agree(regions, tmp_path):
    levels = np.asarray(Image.open(PHOTO).convert("RGB"))[60:231, 200:403]
    Image.fromarray(levels).save(tmp_path / "p.png")
    width = 3 * levels.shape[1]
    enlarger = next(node for node in regions.values() if node["class_type"] == "ImageScale")
    enlarger["inputs"]["width"] = width
    cut = overlapping.OverlappingCut(regions, 128, 32)
    parts, words = cut.parts(Picture("p.png", tmp_path / "p.png", "p.png"), tmp_path / "blocks", levels.shape[:2])
    assert words == "blocks that share 64 pixels, of which 32 are cross-faded" and len(parts) == 4
    large, keeper, job_for = levels.repeat(3, 0).repeat(3, 1), cut.keeper(), cut.jobs(parts, levels, 5)
    for part in parts:
        job, outer = job_for(part), part.core.outer.scaled(3)
        sampler, scaled = ({**job.changes[key]} for key in ("8", "4"))
        assert scaled == {"width": outer.width} and sampler == {"noise_top": outer.y, "noise_left": outer.x}
        with Image.open(io.BytesIO(job.content)) as sent:
            assert np.array_equal(np.asarray(sent), levels[part.core.outer.slices])
        result = as_png(large[outer.slices].astype(np.float32) / 255)
        size = (outer.width, outer.height)
        record = keeper.save(part, PictureOutcome(part.name, DONE, image=result, result_size=size), "-")
        assert record["status"] == DONE
    assemble(parts, (levels.shape[0], levels.shape[1]), tmp_path / "p.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "p.tif"), large)
    odd = keeper.save(parts[0], PictureOutcome("p", DONE, image=result, result_size=(outer.width + 1, 7)), "-")
    assert odd["status"] == FAILED and "expected a whole multiple" in odd["error"]


def test_borders_are_cross_faded(regions, tmp_path):
    (tmp_path / "p.png").touch()
    cut = overlapping.OverlappingCut(regions, 64, 16)
    parts, _ = cut.parts(Picture("p.png", tmp_path / "p.png", "p.png"), tmp_path / "blocks", (32, 128))
    for part, level in zip(parts, (40, 200)):
        part.file.parent.mkdir(parents=True, exist_ok=True)
        part.file.write_bytes(bytes([level]) * (3 * part.kept.area))
    assemble(parts, (32, 128), tmp_path / "p.tif")
    row = tifffile.imread(tmp_path / "p.tif")[7, :, 1].astype(int)
    assert row[47] == 40 and row[80] == 200 and row[63] == 118 and row[64] == 123
    assert np.abs(np.diff(row)).max() == 5, "a ramp across the shared strip, no step"


def test_the_bench_of_seams_sees_a_step_at_a_border_and_nothing_where_there_is_none():
    whole = torch.rand(1, 3, 64, 256, generator=torch.Generator().manual_seed(2)) * 255
    regions = [kept.scaled(2) for _, kept in overlapping.rectangles((32, 128), 64, 16)]
    same = seams.of_blocks(whole.clone(), whole, regions)
    assert same == {"excess": 0.0, "difference_where_faded": 0.0, "difference_elsewhere": 0.0}
    stepped = whole.clone()
    stepped[..., 128:] += 60
    found = seams.of_blocks(stepped, whole, regions)
    assert found["excess"] > 0.01 and found["difference_where_faded"] == pytest.approx(30)


def test_blocks_that_would_be_mostly_halo_are_a_sentence(regions, tmp_path):
    (tmp_path / "p.png").touch()
    with pytest.raises(StepError, match="expected blocks of at least four times the halo"):
        overlapping.OverlappingCut(regions, 64, 32).parts(
            Picture("p.png", tmp_path / "p.png", "p.png"), tmp_path / "blocks", (99, 99)
        )
