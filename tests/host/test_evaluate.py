"""`dev.py evaluate` on a real ComfyUI: workflow files in both forms, results, metrics, reports."""

import csv
import json
from pathlib import Path

import pytest
from adaptivesr.sampling.network_cost import COUNTED
from adaptivesr.tools import demo
from adaptivesr.tools.env.steps import StepError
from adaptivesr.tools.evaluate import graph
from adaptivesr.tools.evaluate import main as command
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(file.stem for file in (ROOT / "workflows" / "api").glob("*.json"))
ONE_STEP = ROOT / "workflows" / "one_step_sr.json"


def without_titles(prompt):
    return {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in prompt.items()}


@pytest.fixture(scope="module")
def definitions(server):
    return server.client().object_info()


@pytest.mark.parametrize("name", SHIPPED)
def test_files_of_the_page_are_read_as_the_page_exports_them(definitions, name):
    page = graph.to_prompt(graph.read_workflow(ROOT / "workflows" / f"{name}.json"), definitions)
    exported = graph.read_workflow(ROOT / "workflows" / "api" / f"{name}.json")
    assert without_titles(page) == without_titles(exported)


def test_reroutes_bypassed_nodes_and_primitives_are_followed(definitions):
    workflow = json.loads(ONE_STEP.read_text(encoding="utf-8"))
    fix = next(node for node in workflow["nodes"] if node["type"] == "AdaptiveSRWaveletColorFix")
    upscaler = next(node for node in workflow["nodes"] if node["type"] == "AdaptiveSROneStepDistilledSR")
    fix["mode"] = graph.BYPASSED
    prompt = graph.to_prompt(workflow, definitions)
    save = next(node for node in prompt.values() if node["class_type"] == "SaveImage")
    assert save["inputs"]["images"] == [str(upscaler["id"]), 0] and str(fix["id"]) not in prompt
    reroute = {
        "id": 90,
        "type": "Reroute",
        "inputs": [{"name": "", "type": "*", "link": 91}],
        "outputs": [{"type": "*"}],
    }
    number = {"id": 95, "type": "PrimitiveNode", "outputs": [{"type": "FLOAT"}], "widgets_values": [3.0, "fixed"]}
    link = next(socket for socket in upscaler["inputs"] if socket["name"] == "image")["link"]
    found = next(entry for entry in workflow["links"] if entry[0] == link)
    workflow["links"] += [[91, found[1], found[2], 90, 0, "IMAGE"], [96, 95, 0, upscaler["id"], 9, "FLOAT"]]
    found[1:3] = [90, 0]
    workflow["nodes"] += [reroute, number]
    upscaler["inputs"].append({"name": "scale", "type": "FLOAT", "widget": {"name": "scale"}, "link": 96})
    inputs = graph.to_prompt(workflow, definitions)[str(upscaler["id"])]["inputs"]
    picture = next(node["id"] for node in workflow["nodes"] if node["type"] == "LoadImage")
    assert inputs["image"] == [str(picture), 0] and inputs["scale"] == 3.0


def test_what_only_the_page_can_convert_is_a_sentence(definitions, tmp_path):
    workflow = json.loads(ONE_STEP.read_text(encoding="utf-8"))
    with pytest.raises(StepError, match="subgraphs, which only the page can unfold"):
        graph.to_prompt(workflow | {"definitions": {"subgraphs": [{"id": "x"}]}}, definitions)
    workflow["nodes"][1]["type"] = "SomebodyElsesNode"
    with pytest.raises(StepError, match="'SomebodyElsesNode', which this ComfyUI does not know"):
        graph.to_prompt(workflow, definitions)
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(StepError, match="is no workflow of ComfyUI"):
        graph.read_workflow(tmp_path / "list.json")


def test_only_what_the_result_needs_is_queued(definitions):
    prompt = graph.to_prompt(graph.read_workflow(ROOT / "workflows" / "image_quality.json"), definitions)
    plan = graph.make_plan(prompt, definitions, {})
    kinds = [node["class_type"] for node in plan.prompt.values()]
    assert "AdaptiveSRImageQuality" not in kinds and "SaveImage" not in kinds and kinds.count("PreviewImage") == 1
    with pytest.raises(StepError, match="no input 'scael': expected one of"):
        graph.make_plan(prompt, definitions, {"scael": 2})


@pytest.fixture
def evaluate(server, tmp_path):
    def run(*words, output="out", workflow=ONE_STEP):
        words = [str(word) for word in (workflow, "--output", tmp_path / output, "--url", server.url, *words)]
        code = command.main(words)
        with (tmp_path / output / "results.csv").open(encoding="utf-8", newline="") as file:
            return code, {row["name"]: row for row in csv.DictReader(file)}

    return run


@pytest.fixture
def crops(tmp_path):
    """Three good pictures of 64 x 64 pixels, the last one cut to an odd size."""
    photo, folder = Image.open(demo.PHOTO).convert("RGB"), tmp_path / "hr"
    folder.mkdir()
    for number, (x, y, width, height) in enumerate([(180, 60, 64, 64), (240, 120, 64, 64), (60, 300, 67, 62)]):
        photo.crop((x, y, x + width, y + height)).save(folder / f"{number}.png")
    return folder


def test_a_folder_becomes_pictures_and_numbers_that_are_right(evaluate, crops, tmp_path):
    code, rows = evaluate("--hr", crops, "--degrade", "bicubic", "--metrics", "psnr,piqe", "--seed", 3)
    assert code == 0 and [row["status"] for row in rows.values()] == ["done"] * 3
    assert {row["calls"] for row in rows.values()} == {"1"} and float(rows["0.png"]["seconds"]) > 0
    assert float(rows["0.png"]["tflop"]) == pytest.approx(COUNTED["embedded one step"](16, 16) / 1e12, abs=1e-6)
    assert (rows["2.png"]["width"], rows["2.png"]["result_height"]) == ("16", "60")
    with Image.open(tmp_path / "out" / "pictures" / "0.png") as ours, Image.open(crops / "0.png") as truth:
        assert float(rows["0.png"]["psnr"]) == pytest.approx(demo.psnr_y(ours.convert("RGB"), truth), abs=1e-3)
    page = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "| psnr | higher |" in page and "| piqe | lower |" in page and "3 of 3 pictures" in page
    code, again = evaluate(
        "--input", tmp_path / "out" / "lr", "--hr", crops, "--metrics", "psnr", "--seed", 3, output="two"
    )
    assert code == 0 and again["0.png"]["psnr"] == rows["0.png"]["psnr"]
    for name in ("0.png", "1.png", "2.png"):  # the small pictures of the first run, upscaled by themselves
        both = [(tmp_path / folder / "pictures" / name).read_bytes() for folder in ("out", "two")]
        assert both[0] == both[1]


def test_a_metric_without_weights_and_one_without_references_are_sentences(evaluate, crops, tmp_path, monkeypatch):
    import pyiqa

    monkeypatch.setattr(
        pyiqa, "create_metric", unreachable := lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    assert unreachable is pyiqa.create_metric
    code, rows = evaluate("--input", crops, "--metrics", "musiq,lpips,fid", "--set", "scale=2")
    assert code == 0 and rows["0.png"]["musiq"] == "" and rows["0.png"]["result_width"] == "128"
    page = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "* musiq: its weights or packages could not be had here" in page
    assert "* fid: it compares with references, and there is no --hr." in page and "* lpips: it compares" in page


def test_a_node_that_refuses_is_the_pictures_error(evaluate, crops):
    for file in list(crops.iterdir())[1:]:
        file.unlink()
    code, rows = evaluate("--input", crops, "--set", "overlap=1000", "--set", "tile=256", "--metrics", "")
    (row,) = rows.values()
    assert (
        code == 2
        and row["status"] == "failed"
        and "AdaptiveSROneStepDistilledSR: Got an overlap of 1000" in row["notes"]
    )
