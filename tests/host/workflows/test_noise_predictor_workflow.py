"""The shipped training of a noise predictor, queued over the API with one step of a small one."""

import json
from pathlib import Path

from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.tiny import fetch_pixels

API = Path(__file__).resolve().parents[3] / "workflows" / "api"
TRAIN = "AdaptiveSRTrainNoisePredictor"
SHORT = {"steps": 1, "batch_size": 1, "crop_size": 64, "size": "small", "precision": "float32", "taus": "200"}


def test_it_trains_and_upscales_with_what_it_trained(client):
    prompt = json.loads((API / "train_noise_predictor.json").read_text(encoding="utf-8"))
    (train,) = nodes_of_class(prompt, TRAIN)
    prompt[train]["inputs"] |= {**SHORT, "name": "np_over_the_api"}
    run = client.run(prompt)
    assert run.succeeded, run.error
    (text,) = nodes_of_class(prompt, "PreviewAny")
    report = json.loads(run.outputs[text]["text"][0])
    assert report["steps"] == 1 and report["taus"] == [200]
    (save,) = nodes_of_class(prompt, "SaveImage")
    assert fetch_pixels(client, run.outputs[save]["images"][0]).shape == (4 * 32, 4 * 48, 3)
    choices = client.object_info()["AdaptiveSRLoadNoisePredictor"]["input"]["required"]["model_name"][1]["options"]
    assert Path(report["file"]).name in choices
