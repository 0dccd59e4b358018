"""Files of trainings survive kills, and training folders are read as people have them."""

import os
import signal
import time

import numpy as np
import pytest
import torch
from adaptivesr.training import atomic, image_folder
from adaptivesr.training.loss_log import LossLog
from PIL import Image


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "state"
    path.write_text("before")

    def fails(place):
        place.write_text("half of")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic.replace_file(path, fails)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["state"]
    atomic.partial_of(path).mkdir()
    (atomic.partial_of(path) / "file").write_text("left by a kill")
    atomic.sweep(path)
    assert os.listdir(tmp_path) == ["state"]


def log_of(steps, start=1):
    log = LossLog()
    for step in range(start, steps + 1):
        log.add(step, {"loss": 1 / step, "norm": step / 7})
    return log


def test_a_table_grows_by_its_new_rows_only(tmp_path):
    log, path = log_of(100), tmp_path / "losses.csv"
    log.save(path)
    before = path.stat()
    log.save(path)
    assert path.stat().st_size == before.st_size
    for step in range(101, 104):
        log.add(step, {"loss": 1 / step, "norm": step / 7})
    log.save(path)
    assert path.stat().st_ino == before.st_ino, "the table was written anew"
    again = LossLog()
    again.load(path, up_to=103)
    assert again.rows == log_of(103).rows


def test_a_table_that_another_run_changed_is_written_anew(tmp_path):
    log, path = log_of(3), tmp_path / "losses.csv"
    log.save(path)
    log_of(9).save(path)
    log.save(path)
    again = LossLog()
    again.load(path, up_to=9)
    assert again.rows == log.rows


@pytest.mark.parametrize(
    "torn", [b"4,lo", b"4,loss,", b"4", b"4,loss,0.2,", b"\xff\xfe\x00", b"x,loss,1\n", b"-1,loss,2\n"]
)
def test_torn_lines_do_not_stop_a_resume(tmp_path, torn):
    path = tmp_path / "losses.csv"
    log_of(3).save(path)
    with path.open("ab") as file:
        file.write(torn)
    again = LossLog()
    again.load(path, up_to=9)
    assert [row for row in again.rows if row[0] <= 3] == log_of(3).rows
    again.add(4, {"loss": 0.25})
    again.save(path)
    third = LossLog()
    third.load(path, up_to=9)
    assert third.rows == again.rows


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")
def test_a_kill_while_saving_loses_no_row(tmp_path):
    path, log = tmp_path / "losses.csv", log_of(2000)
    log.save(path)
    for turn in range(10):
        child = os.fork()
        if child == 0:
            while True:
                log.save(path)
                log._written = None  # whole tables, which take longest
        time.sleep(0.01 + 0.004 * turn)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        again = LossLog()
        again.load(path, up_to=2000)
        assert again.rows == log.rows


def test_hidden_files_and_folders_with_picture_names_are_no_pictures(tmp_path):
    (tmp_path / "album.png").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("b.png", "._b.png", "album.png/a photo.JPG", ".cache/c.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    found = [path.relative_to(tmp_path).as_posix() for path in image_folder.image_files(tmp_path)]
    assert found == ["album.png/a photo.JPG", "b.png"]


def test_a_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folder, "MOST_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(ValueError, match="more than 3 files"):
        image_folder.image_files(tmp_path)


@pytest.mark.parametrize("depth", ["16 bit", "float 0..1", "float 0..255"])
def test_deep_pictures_keep_their_brightness(tmp_path, depth):
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    if depth == "16 bit":
        Image.fromarray((ramp * 65535).astype(np.uint16)).save(tmp_path / "deep.png")
    else:
        Image.fromarray(ramp * (255 if "255" in depth else 1)).save(tmp_path / "deep.tiff")
    (path,) = image_folder.image_files(tmp_path)
    read = image_folder.read_image(path)
    assert read.shape == (3, 8, 8) and torch.allclose(read, torch.from_numpy(ramp).expand(3, -1, -1), atol=1e-4)


def test_eight_bit_pictures_are_read_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert torch.equal(
        image_folder.read_image(tmp_path / "a.png"), torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_captions_are_read_in_the_encodings_that_editors_write(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("café, blue sky,\r\n".encode(encoding))
    assert image_folder.read_tags(tmp_path / "a.png") == "café, blue sky"
