"""Keys for the host's cache: the host passes None for linked inputs, and runs a node whose fingerprint fails at every queue."""

import inspect

import pytest


@pytest.fixture(scope="module")
def fingerprints(comfy):
    """By node id the fingerprint of every node of ours that has one, and the names of what it takes."""
    found = {}
    for name, node in comfy.nodes.NODE_CLASS_MAPPINGS.items():
        if name.startswith("AdaptiveSR") and "fingerprint_inputs" in vars(node):
            taken = inspect.signature(node.fingerprint_inputs).parameters.values()
            found[name] = node.fingerprint_inputs, [p.name for p in taken if p.kind is not p.VAR_KEYWORD]
    return found


def test_loaders_and_trainings_have_fingerprints(fingerprints):
    assert len(fingerprints) == 13


def test_a_linked_input_gives_a_constant_key(fingerprints):
    for name, (fingerprint, inputs) in fingerprints.items():
        for linked in inputs:
            given = {other: None if other == linked else "a file" for other in inputs}
            assert fingerprint(**given) == fingerprint(**dict.fromkeys(inputs)) == "linked", f"{name}.{linked}"


def test_a_changed_folder_gives_another_key(fingerprints, tmp_path):
    fingerprint, inputs = fingerprints["AdaptiveSRTrainMMLE"]
    assert inputs == ["image_folder"]
    empty = fingerprint(image_folder=str(tmp_path))
    assert fingerprint(image_folder=str(tmp_path)) == empty
    (tmp_path / "picture.png").touch()
    assert fingerprint(image_folder=str(tmp_path)) != empty
