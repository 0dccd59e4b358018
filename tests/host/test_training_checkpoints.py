"""Training checkpoints with the framework's objects beside the weights: read without running anything, or refused."""

import collections
import os
import sys
import types

import pytest
import torch

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


class CallAtLoad:
    """Pickles as a call of a function; whatever loads it carelessly makes the call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def framework(monkeypatch):
    """Modules as the training framework has them, importable while the test runs: a callback class, and a function that acts."""
    callbacks = types.ModuleType("pytorch_lightning.callbacks")

    class ModelCheckpoint:
        def __init__(self, note="made"):
            self.note = note

        def __setstate__(self, state):
            raise AssertionError("a real class of the framework was used")

    def leave_trace(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write("ran")

    for thing in (ModelCheckpoint, leave_trace):
        thing.__module__, thing.__qualname__ = callbacks.__name__, thing.__name__
        setattr(callbacks, thing.__name__, thing)
    root = types.ModuleType("pytorch_lightning")
    root.callbacks = callbacks
    monkeypatch.setitem(sys.modules, "pytorch_lightning", root)
    monkeypatch.setitem(sys.modules, callbacks.__name__, callbacks)
    return callbacks


@pytest.fixture
def load(comfy):
    return comfy.module("host.files").load_file


@pytest.fixture
def refusal(comfy):
    return comfy.module("models.state_dict").UnsupportedModelError


def same(found):
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[key], value) for key, value in WEIGHTS.items())


def saved(tmp_path, **beside):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": collections.OrderedDict(WEIGHTS), "epoch": 117, **beside}, path)
    return str(path)


def test_callbacks_and_their_state_are_passed_over(load, framework, tmp_path):
    path = saved(
        tmp_path,
        callbacks={framework.ModelCheckpoint: {"best": 1.0}},
        trained_by=[framework.ModelCheckpoint("kept")],
    )
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)
    assert same(load(path))


def test_a_function_of_the_framework_is_not_called(load, framework, tmp_path):
    trace = tmp_path / "trace"
    path = saved(tmp_path, callbacks=[CallAtLoad(framework.leave_trace, str(trace))])
    assert same(load(path))
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file would not have acted anyway"


def test_code_beside_or_inside_the_framework_is_refused_by_name(load, refusal, framework, tmp_path):
    trace = tmp_path / "trace"
    call = CallAtLoad(os.system, f"touch {trace}")
    for beside in ({"extra": call}, {"callbacks": {framework.ModelCheckpoint: call}}):
        with pytest.raises(
            refusal, match=r"model\.ckpt' could not be read.*asks for \w+\.system, which could run code"
        ):
            load(saved(tmp_path, **beside))
    assert not trace.exists()


def test_names_that_only_begin_alike_are_refused(load, refusal, monkeypatch, tmp_path):
    module = types.ModuleType("pytorch_lightning_evil")
    module.Thing = type("Thing", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(refusal, match=r"asks for pytorch_lightning_evil\.Thing"):
        load(saved(tmp_path, extra=module.Thing()))


def test_the_permission_ends_with_the_call(load, framework, tmp_path):
    path = saved(tmp_path, callbacks={framework.ModelCheckpoint: {}})
    before = set(torch.serialization.get_safe_globals())
    load(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)


def test_other_damage_keeps_its_sentence(load, refusal, framework, tmp_path):
    path = saved(tmp_path, callbacks={framework.ModelCheckpoint: {}})
    with open(path, "rb") as file:
        whole = file.read()
    with open(path, "wb") as file:
        file.write(whole[: len(whole) // 2])
    with pytest.raises(refusal, match="could not be read as a file of tensors"):
        load(path)


def test_plain_files_take_the_plain_way(load, tmp_path):
    assert same(load(saved(tmp_path)))
