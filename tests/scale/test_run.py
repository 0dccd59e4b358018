"""One worker: odd files, what a second start does, pictures that fail; and the order in which pictures are handed out."""

import csv
import json

import numpy as np
import pytest
import tifffile
from adaptivesr.tools.env.steps import StepError
from adaptivesr.tools.evaluate import main as command
from adaptivesr.tools.evaluate import pictures as pictures_module
from adaptivesr.tools.evaluate.pictures import Picture, list_pictures, seed_of
from adaptivesr.tools.evaluate.run import Dispatcher, picture_jobs
from adaptivesr.tools.evaluate.store import Store
from adaptivesr.tools.evaluate.worker import DONE, FAILED, HOST_DIED, NO_HOST, PictureOutcome
from PIL import Image

NAME = "名字 with spaces 图.jpg"


@pytest.fixture
def evaluate(source, workflow_file, tmp_path):
    def run(folder, *words, output="out"):
        words = [str(word) for word in words]
        return command.main(
            [
                str(workflow_file),
                "--input",
                str(folder),
                "--output",
                str(tmp_path / output),
                "--metrics",
                "",
                "--cpu",
                *words,
            ]
        )

    return run


def table(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_odd_files_get_a_clear_line_each_and_stop_nothing(evaluate, pictures, tmp_path, capsys):
    folder = pictures(1)
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    (folder / "broken.png").write_bytes((folder / "p00.png").read_bytes()[:40])
    (folder / "text.jpg").write_text("not a picture", encoding="utf-8")
    Image.new("RGB", (1, 1), (9, 8, 7)).save(folder / "one.png")
    Image.new("RGBA", (5, 4), (9, 8, 7, 128)).save(folder / "alpha.png")
    tifffile.imwrite(folder / "deep.tif", np.full((4, 5, 3), 0x8040, np.uint16), photometric="rgb")
    Image.new("RGB", (5, 4), (90, 80, 70)).save(folder / NAME)
    assert evaluate(folder) == 2
    lines = capsys.readouterr().out.splitlines()

    def line_of(name):
        (found,) = [line for line in lines if f" {name}: " in f" {line}" and not line.startswith("*")]
        return found

    assert "left out: no picture by its name" in line_of("notes.txt")
    assert "set aside: cannot be read as a picture" in line_of("broken.png")
    assert "set aside: cannot be read as a picture (unknown format or damaged)" in line_of("text.jpg")
    assert "1x1 to 4x4" in line_of("one.png")
    assert "without its transparency" in line_of("alpha.png")
    assert "16 bits rounded to 8" in line_of("deep.tif")
    assert "5x4 to 20x16" in line_of(NAME)
    assert (tmp_path / "out" / "pictures" / NAME.replace(".jpg", ".png")).is_file()
    rows = table(tmp_path / "out")
    assert [name for name, row in rows.items() if row["status"] != "done"] == ["broken.png", "text.jpg"]
    assert (
        rows["one.png"]["calls"] == "7" and rows["one.png"]["tflop"] == "0.5" and rows["one.png"]["result_width"] == "4"
    )


def test_a_second_start_does_only_the_rest(evaluate, pictures, diary, tmp_path, capsys):
    folder = pictures(3)
    assert evaluate(folder) == 0
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "pictures").iterdir()}
    (tmp_path / "out" / "pictures" / "p01.png").unlink()
    pictures(4)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(folder / "p02.png")
    assert diary.count("ends") == 3 and evaluate(folder) == 0
    assert diary.count("ends") == 6  # one result was lost, one picture changed, one is new
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "pictures").iterdir()}
    assert after["p00.png"] == before["p00.png"] and after["p01.png"] > before["p01.png"] and "p03.png" in after
    hosts = len(diary.hosts())
    assert evaluate(folder) == 0 and len(diary.hosts()) == hosts, "nothing to do: no ComfyUI is started"
    assert "all 4 pictures are done already" in capsys.readouterr().out


def test_other_settings_do_not_go_into_the_same_folder(evaluate, pictures, tmp_path):
    folder = pictures(1)
    assert evaluate(folder) == 0
    with pytest.raises(StepError, match="holds a run with seed 0, now it is 1"):
        evaluate(folder, "--seed", 1)
    with pytest.raises(StepError, match=r"holds a run with changes \{\}"):
        evaluate(folder, "--set", "seed=3")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(StepError, match="not empty and holds no run"):
        evaluate(folder, output="mine")


def test_pictures_that_fail_or_kill_are_set_aside_after_two_tries_with_their_error(evaluate, pictures, diary, tmp_path):
    folder = pictures(2, killer=(255, 0, 0), failing=(0, 255, 0))
    assert evaluate(folder) == 2
    rows = table(tmp_path / "out")
    assert (
        rows["killer.png"]["status"] == "host died" and "its ComfyUI ended with code 3" in rows["killer.png"]["notes"]
    )
    assert (
        rows["failing.png"]["status"] == "failed" and "this picture cannot be upscaled" in rows["failing.png"]["notes"]
    )
    assert rows["p00.png"]["status"] == rows["p01.png"]["status"] == "done"
    assert diary.count("begins") == 2 + 2 * 2
    Image.new("RGB", (4, 4), (0, 0, 9)).save(folder / "failing.png")
    assert evaluate(folder, "--retry") == 2  # the killer again; the other has become a good one
    assert table(tmp_path / "out")["failing.png"]["status"] == "done" and diary.count("begins") == 6 + 3


def test_a_picture_is_the_same_whatever_else_is_in_the_folder(evaluate, pictures, tmp_path):
    assert evaluate(pictures(3), output="three") == 0 and evaluate(pictures(1, "alone"), output="one") == 0
    both = [(tmp_path / name / "pictures" / "p00.png").read_bytes() for name in ("three", "one")]
    assert both[0] == both[1]
    assert seed_of(0, "p00.png") != seed_of(0, "p01.png") and seed_of(0, "p00.png") != seed_of(1, "p00.png")


def test_results_of_equal_stems_keep_their_endings(tmp_path):
    for name in ("a.png", "a.jpg", "B.png", "b.bmp", "c.tif"):
        (tmp_path / name).touch()
    found, _ = list_pictures(tmp_path, None)
    results = {picture.name: picture.result for picture in found}
    assert results["c.tif"] == "c.png"
    assert len({result.casefold() for result in results.values()}) == 5
    assert results["a.jpg"] == "a.jpg.png"


def test_endings_are_those_of_the_trainings():
    from adaptivesr.training import image_folder

    assert pictures_module.SUFFIXES == image_folder.SUFFIXES


def test_references_are_found_by_name_with_or_without_a_mark_of_scale(tmp_path):
    for folder, names in {"lr": ("0801x4.png", "b.jpg", "c.png"), "hr": ("0801.png", "b.png")}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    found, _ = list_pictures(tmp_path / "lr", tmp_path / "hr")
    assert {picture.name: picture.reference and picture.reference.name for picture in found} == {
        "0801x4.png": "0801.png",
        "b.jpg": "b.png",
        "c.png": None,
    }


class Scripted:
    """Slots whose outcomes are written beforehand: by picture, one after the other."""

    work_elsewhere = True

    def __init__(self, slots, outcomes):
        self.idle, self.busy, self.outcomes, self.given = list(range(slots)), [], outcomes, []

    def free(self):
        return list(self.idle)

    def any_left(self):
        return bool(self.idle or self.busy)

    def submit(self, slot, job):
        self.idle.remove(slot)
        self.busy.append((slot, job.name))
        self.given.append((slot, job.name))

    def next(self):
        slot, name = self.busy.pop(0)
        self.idle.append(slot)
        status = self.outcomes.get(name, [DONE]).pop(0) if self.outcomes.get(name) else DONE
        return slot, PictureOutcome(name, status, error="" if status == DONE else "why", image=b"x")

    def retire(self, slot):
        self.idle.remove(slot)

    def label(self, slot):
        return str(slot)


@pytest.fixture
def dispatch(tmp_path):
    def run(slots, names="abc"):
        for name in names:
            (tmp_path / name).touch()
        store = Store(tmp_path / "store")
        store.open({})
        dispatcher = Dispatcher(store, slots, picture_jobs(0, with_references=True))
        try:
            dispatcher.run([Picture(name, tmp_path / name, f"{name}.png") for name in names])
        finally:
            dispatch.records = {name: record["status"] for name, record in dispatcher.records.items()}
        return dispatch.records

    dispatch = run
    return run


def test_a_picture_that_failed_goes_to_another_worker(dispatch):
    slots = Scripted(2, {"a": [HOST_DIED]})
    assert dispatch(slots) == {"a": DONE, "b": DONE, "c": DONE}
    tries = [slot for slot, name in slots.given if name == "a"]
    assert len(tries) == 2 and tries[0] != tries[1]


def test_a_worker_elsewhere_gets_its_next_picture_before_the_last_result_is_written(dispatch, monkeypatch):
    slots, written = Scripted(1, {}), []
    save = Store.save

    def noted(self, picture, *rest):
        written.append((picture.name, len(slots.given)))
        return save(self, picture, *rest)

    monkeypatch.setattr(Store, "save", noted)
    assert dispatch(slots) == {"a": DONE, "b": DONE, "c": DONE} and written == [("a", 2), ("b", 3), ("c", 3)]
    slots.work_elsewhere, slots.given = False, []
    written.clear()
    assert dispatch(slots, "def") == {"d": DONE, "e": DONE, "f": DONE}
    assert written == [("d", 1), ("e", 2), ("f", 3)], "in this process a result is written before the next is begun"


def test_two_failures_set_a_picture_aside(dispatch):
    assert dispatch(Scripted(2, {"a": [HOST_DIED, FAILED]})) == {"a": FAILED, "b": DONE, "c": DONE}


def test_a_worker_without_a_host_costs_no_picture(dispatch):
    class Headless(Scripted):
        def next(self):
            slot, outcome = super().next()
            return slot, PictureOutcome(outcome.name, NO_HOST, "gone") if slot == 0 else outcome

    slots = Headless(2, {})
    assert dispatch(slots, "abcdef") == dict.fromkeys("abcdef", DONE)
    assert 0 not in slots.idle, "given up after three failures in a row"
    alone = Headless(1, {})
    with pytest.raises(StepError, match=r"No worker is left \(gone\)"):
        dispatch(alone, "xyz")


def test_a_damaged_manifest_is_a_sentence(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(StepError, match="is damaged"):
        store.open({})
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 0}), encoding="utf-8")
    with pytest.raises(StepError, match="holds a run with format 0, now it is 1"):
        store.open({})
