"""Pictures of a folder, their tags, and the degradation of TASR's training."""

import os

import pytest
import torch
from adaptivesr.imaging.degradation.presets import PRESETS, degrade
from adaptivesr.sampling.noise import generator_for
from adaptivesr.training.data import DegradedPairs
from adaptivesr.training.image_folder import crops, grown_to, image_files, random_crop, read_image, read_tags
from adaptivesr.training.tasr.data import PromptedPairs, same_length
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (90, 70), (255, 0, 0)).save(tmp_path / "b.png")
    Image.new("L", (40, 50), 128).save(tmp_path / "more" / "a.jpg")
    (tmp_path / "b.txt").write_text(" tree, sky, \n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not a picture", encoding="utf-8")
    return tmp_path


def test_pictures_below_a_folder_with_their_tags(folder):
    files = image_files(folder)
    assert [path.name for path in files] == ["b.png", "a.jpg"]
    assert (read_tags(files[0]), read_tags(files[1])) == ("tree, sky", None)
    assert read_image(files[0])[:, 0, 0].tolist() == [1, 0, 0]
    assert read_image(files[1]).shape == (3, 50, 40)  # grey becomes RGB
    assert crops(files, [0, 1, 1], 64, generator_for(0)).shape == (3, 3, 64, 64)  # small pictures are enlarged


def test_empty_missing_and_broken_are_sentences(folder, tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        image_files(folder / "b.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no picture.*\.png"):
        image_files(tmp_path / "empty")
    (folder / "c.png").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"'c\.png' could not be read"):
        read_image(folder / "c.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_named_as_a_picture_is_no_picture_and_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "b2.txt")
    Image.new("RGB", (40, 40)).save(folder / "b2.png")
    assert [path.name for path in image_files(folder)] == ["b.png", "b2.png", "a.jpg"]
    assert read_tags(folder / "b2.png") is None
    with pytest.raises(ValueError, match=r"'pipe\.png' could not be read.*it is no file"):
        read_image(folder / "pipe.png")


def test_a_line_of_pixels_is_not_enlarged_to_a_picture_that_fills_the_memory():
    line = torch.linspace(0, 1, 20001).expand(3, 1, -1)
    assert grown_to(line, 64).shape == (3, 64, 1024)
    assert grown_to(line.mT, 64).shape == (3, 1024, 64)
    assert abs(float(grown_to(line, 64).mean()) - 0.5) < 1e-3  # its middle
    assert random_crop(line, 64, generator_for(0)).shape == (3, 64, 64)
    assert grown_to(torch.rand(3, 40, 60), 64).shape == (3, 64, 96)


def test_crops_follow_from_the_generator_alone():
    picture = torch.rand(3, 40, 60)
    assert torch.equal(random_crop(picture, 32, generator_for(1)), random_crop(picture, 32, generator_for(1)))
    assert not torch.equal(random_crop(picture, 32, generator_for(1)), random_crop(picture, 32, generator_for(2)))


def test_the_degradation_keeps_size_and_range_and_takes_detail_away():
    picture = torch.rand(4, 3, 64, 64, generator=generator_for(0))
    bad = degrade(picture, PRESETS["tasr"], generator_for(1), 1)
    assert bad.shape == picture.shape and bad.min() >= 0 and bad.max() <= 1
    assert torch.equal(bad, degrade(picture, PRESETS["tasr"], generator_for(1), 1))
    assert bad.diff(dim=-1).abs().mean() < 0.5 * picture.diff(dim=-1).abs().mean()
    assert len({round(float(one.std()), 4) for one in bad}) == 4  # every image has strengths of its own


def test_a_batch_carries_the_prompt_of_its_picture():
    pictures = [torch.full((3, 64, 64), value / 4) for value in range(4)]
    texts = [torch.full((1, 7, 3), float(value)) for value in range(4)]
    pairs = DegradedPairs(pictures, 64, PRESETS["tasr"], 1)
    source = PromptedPairs(pairs, texts, torch.full((1, 7, 3), -1.0))
    batch = source.batch(generator_for(3), 8)
    assert batch.target.shape == batch.condition.shape == (8, 3, 64, 64) and batch.text.shape == (8, 7, 3)
    assert torch.equal(batch.text[:, 0, 0], batch.target[:, 0, 0, 0] * 4)
    assert len(set(batch.text[:, 0, 0].tolist())) > 1
    one = PromptedPairs(pairs, texts[:1]).batch(generator_for(3), 2)
    assert one.empty_text is None and one.text.abs().sum() == 0


def test_texts_of_different_lengths_are_repeated():
    short, long = same_length([torch.rand(1, 2, 3), torch.rand(1, 3, 3)])
    assert short.shape == long.shape == (1, 6, 3)
    assert torch.equal(short[:, :2], short[:, 4:])
