"""A state is read and checked whole before anything is filled; damaged shards are made again; names belong to one process."""

import json
import os
import time

import pytest
import torch
from adaptivesr.training import atomic
from adaptivesr.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from adaptivesr.training.ema import Ema
from adaptivesr.training.gains.trajectories import is_whole
from safetensors import safe_open
from safetensors.torch import save_file


def fresh():
    model = torch.nn.Linear(3, 2)
    return TrainState("train", 0, 0, model, Ema(model, 0.9), (torch.optim.Adam(model.parameters(), 0.1),))


def trained():
    state = fresh()
    state.model(torch.ones(4, 3)).square().sum().backward()
    state.optimizers[0].step()
    state.step, state.images = 1, 4
    return state


@pytest.fixture
def saved(tmp_path):
    """The file, its tensors and its header."""
    path = tmp_path / "run_00001.state.safetensors"
    save_checkpoint(path, trained(), "recipe")
    with safe_open(path, framework="pt") as file:
        return path, {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def everything(state):
    optimizer = state.optimizers[0].state_dict()["state"]
    tensors = [
        *state.model.state_dict().values(),
        *state.ema.values.values(),
        *(v for m in optimizer.values() for v in m.values()),
    ]
    return (state.phase, state.step, state.images), [tensor.clone() for tensor in tensors]


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


MOMENT = "optimizer.0.0.exp_avg"
BROKEN = {
    "no weight": lambda t: without(t, "model.weight"),
    "weight of another shape": lambda t: {**t, "model.weight": torch.zeros(3)},
    "whole numbers": lambda t: {**t, "model.weight": torch.zeros(2, 3, dtype=torch.int8)},
    "NaN": lambda t: {**t, "model.bias": torch.tensor([1.0, float("nan")])},
    "no average": lambda t: {key: value for key, value in t.items() if not key.startswith("ema.")},
    "no moment": lambda t: without(t, MOMENT),
    "moment of another shape": lambda t: {**t, MOMENT: torch.zeros(5, 5)},
    "moment of no parameter": lambda t: {**t, "optimizer.0.7.exp_avg": torch.zeros(1)},
    "odd name of a moment": lambda t: {**t, "optimizer.0.x": torch.zeros(1)},
    "infinite moment": lambda t: {**t, MOMENT: t[MOMENT] / 0},
}
HEADERS = [
    "{}",
    "[]",
    "5",
    "x",
    '{"phase": 1, "step": 1, "images": 1}',
    '{"phase": "a", "step": "x", "images": 1}',
    '{"phase": "a", "step": -5, "images": 1}',
    "[" * 100000,
]


def refused_and_untouched(path):
    state = fresh()
    before = everything(state)
    with pytest.raises(ValueError, match=r"saved run 'run_00001\.state\.safetensors' is damaged") as error:
        load_checkpoint(path, state, "recipe")
    after = everything(state)
    assert str(path.parent) not in str(error.value) and len(str(error.value)) < 400
    assert before[0] == after[0] and all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_what_was_saved_is_what_is_loaded(saved):
    state = fresh()
    load_checkpoint(saved[0], state, "recipe")
    with safe_open(saved[0], framework="pt") as file:
        assert torch.equal(state.model.weight, file.get_tensor("model.weight")) and state.step == 1
    assert state.optimizers[0].state_dict()["state"][0]["step"] == 1


@pytest.mark.parametrize("kind", BROKEN)
def test_tensors_that_do_not_fit_are_refused_before_any_is_used(saved, kind):
    path, tensors, metadata = saved
    save_file(BROKEN[kind](tensors), path, metadata=metadata)
    refused_and_untouched(path)


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_without_a_position_is_refused(saved, header):
    path, tensors, metadata = saved
    save_file(tensors, path, metadata={**metadata, "state": header})
    refused_and_untouched(path)


@pytest.mark.parametrize("part", [0, 7, 100, 0.5, 0.99])
def test_a_torn_state_is_refused(saved, part):
    whole = saved[0].read_bytes()
    saved[0].write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])
    refused_and_untouched(saved[0])


def test_a_folder_or_nothing_in_its_place_is_refused(saved):
    saved[0].unlink()
    refused_and_untouched(saved[0])
    saved[0].mkdir()
    refused_and_untouched(saved[0])


def test_another_recipe_is_named_without_places_of_the_machine(saved):
    with pytest.raises(ValueError, match="another recipe") as error:
        load_checkpoint(saved[0], fresh(), json.dumps({"other": 1}))
    assert str(saved[0].parent) not in str(error.value)


SHARD = {"x0": (8, 5, 4, 2, 2), "reference": (8, 4, 2, 2), "scores": (8, 5, 3), "contrast": (8,)}


def test_only_whole_shards_are_used(tmp_path):
    path = tmp_path / "00000.safetensors"
    assert not is_whole(path, 3)
    tensors = {name: torch.zeros(shape) for name, shape in SHARD.items()}
    save_file(tensors, path)
    assert is_whole(path, 3) and not is_whole(path, 2)
    data = path.read_bytes()
    for length in (0, 5, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert not is_whole(path, 3)
    for name in SHARD:
        save_file(without(tensors, name), path)
        assert not is_whole(path, 3)
    save_file({**tensors, "contrast": torch.zeros(7)}, path)
    assert not is_whole(path, 3)


def test_a_name_is_taken_once(tmp_path):
    path = tmp_path / "run_00001.state"
    assert atomic.claim(path) and not atomic.claim(path)
    atomic.replace_file(path, lambda place: place.write_text("a state"))
    assert os.listdir(tmp_path) == [path.name]


def test_old_half_written_files_go_and_claims_and_new_ones_stay(tmp_path):
    for name, held, age in (("old", True, 100.0), ("new", True, 0.0), ("claim", False, 100.0)):
        folder = atomic.partial_of(tmp_path / name)
        folder.mkdir()
        if held:
            (folder / ".tmp123").write_text("half")
            os.utime(folder / ".tmp123", (time.time() - age,) * 2)
    atomic.sweep_old(tmp_path, 50.0)
    assert sorted(os.listdir(tmp_path)) == ["claim.partial", "new.partial"]
