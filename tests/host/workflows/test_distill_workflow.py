"""The shipped distillation, queued over the API with two steps."""

import json
from pathlib import Path

from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.tiny import TEACHER, fetch_pixels

ROOT = Path(__file__).resolve().parents[3]
DISTILL = "AdaptiveSRDistillOneStepSR"
SHORT = {"steps": 2, "batch_size": 1, "generated_pictures": 1, "crop_size": 64, "samples_every": 1, "metrics": "psnr"}


def test_it_distils_over_the_api_shows_its_pictures_and_goes_on(client, server):
    prompt = json.loads((ROOT / "workflows" / "api" / "distill_one_step.json").read_text(encoding="utf-8"))
    (distill,) = nodes_of_class(prompt, DISTILL)
    (load,) = nodes_of_class(prompt, "AdaptiveSRLoadOneStepSR")
    prompt[load]["inputs"]["model_name"] = TEACHER
    prompt[distill]["inputs"] |= {**SHORT, "name": "over_the_api"}
    run = client.run(prompt)
    assert run.succeeded, run.error
    (text,) = nodes_of_class(prompt, "PreviewAny")
    report = json.loads(run.outputs[text]["text"][0])
    assert report["steps"] == 2 and set(report["quality"]) == {"teacher, 15 steps", "student, 1 step"}
    for node in nodes_of_class(prompt, "PreviewImage"):
        assert fetch_pixels(client, run.outputs[node]["images"][0]).ndim == 3
    (save,) = nodes_of_class(prompt, "SaveImage")
    assert fetch_pixels(client, run.outputs[save]["images"][0]).shape == (4 * 32, 4 * 48, 3)
    lists = client.object_info()
    assert (
        Path(report["file"]).name in lists["AdaptiveSRLoadOneStepSR"]["input"]["required"]["model_name"][1]["options"]
    )
    # The host fixes a node's lists of choices when it loads the page; the API takes the state by its name once it is listed.
    assert report["resume"] in lists[DISTILL]["input"]["required"]["resume"][1]["options"]
    prompt[distill]["inputs"] |= {"resume": report["resume"], "steps": 1}
    again = client.run(prompt)
    assert again.succeeded, again.error
    assert json.loads(again.outputs[text]["text"][0])["steps"] == 3
