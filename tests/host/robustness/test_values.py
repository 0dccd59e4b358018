"""Every value that reaches a node is checked against the node's schema, whether it came from a widget or through a link."""

import inspect
import math

import pytest
import torch


@pytest.fixture(scope="module")
def ours(comfy):
    return {name: node for name, node in comfy.nodes.NODE_CLASS_MAPPINGS.items() if name.startswith("AdaptiveSR")}


@pytest.fixture(scope="module")
def checked_value(comfy):
    return comfy.module("host.values").checked_value


def inputs_of(node):
    return {entry.id: entry for entry in node.define_schema().inputs}


def test_every_node_checks_what_it_is_given(ours):
    assert len(ours) >= 30
    for name, node in ours.items():
        assert hasattr(node.execute, "__wrapped__"), f"{name} does not derive from CheckedNode"


ODD = {
    "INT": [math.nan, math.inf, -(10**12), 10**30, 2.5, "five", None, [1], {}],
    "FLOAT": [math.nan, math.inf, -math.inf, 1e30, -1e30, "x", None, [1.0], {}, 10**400],
    "BOOLEAN": [None, 2, "no", [True], 0.5],
    "COMBO": [None, "../../x", "/etc/passwd", "\0", 5, ["a"], math.nan, "x" * 20000],
    "STRING": [None, 5, ["a"], {}],
    "IMAGE": [
        None,
        5,
        "x",
        [torch.zeros(1, 2, 2, 3)],
        torch.zeros(1, 2, 2, 3, dtype=torch.uint8),
        torch.zeros(1, 2, 2, 3, device="meta"),
    ],
    "MASK": [None, 5, torch.zeros(2, 2, dtype=torch.bool)],
    "LATENT": [
        None,
        {},
        5,
        {"samples": None},
        {"samples": torch.zeros(0, 4, 8, 8)},
        {"samples": torch.zeros(1, 4, 0, 8)},
        torch.zeros(1),
    ],
    "CONDITIONING": [None, 5, "x", [5], [[None, {}]], [[torch.zeros(1, 0, 4), {}]], [[torch.zeros(1, 1, 4), None]]],
    "MODEL": [None, 5, "x"],
    "VAE": [None, 5],
    "CLIP": [None, 5],
    "CONTROL_NET": [None, 5],
}


WIDGETS = ("INT", "FLOAT", "BOOLEAN", "COMBO", "STRING")


def test_values_that_no_widget_or_socket_may_have_are_refused_with_a_sentence_that_shows_them(ours, checked_value):
    count = 0
    for name, node in ours.items():
        for entry in inputs_of(node).values():
            kind = entry.get_io_type()
            for value in ODD.get(kind, [None, 5, "x", torch.zeros(1)]):
                if value is None and entry.optional:
                    # nothing came by a link: an input that is a widget keeps its default
                    assert checked_value(entry, None) == (entry.default if kind in WIDGETS else None)
                    continue
                with pytest.raises(ValueError, match="expected") as error:
                    checked_value(entry, value)
                assert len(str(error.value)) < 700, f"{name}.{entry.id}"
                count += 1
    assert count > 900


def test_what_a_widget_may_be_a_link_may_be(ours, checked_value):
    for name, node in ours.items():
        for entry in inputs_of(node).values():
            kind = entry.get_io_type()
            if kind in ("INT", "FLOAT"):
                for value in (entry.min, entry.max, entry.default):
                    assert checked_value(entry, value) == value, f"{name}.{entry.id}"
                    assert checked_value(entry, str(value)) == value
            elif kind == "COMBO":
                assert all(checked_value(entry, option) == option for option in entry.options)
            elif kind == "BOOLEAN":
                assert checked_value(entry, 1) is True and checked_value(entry, False) is False


def test_the_largest_seed_stays_whole(ours, checked_value):
    seeds = [
        entry for node in ours.values() for entry in inputs_of(node).values() if entry.id in ("seed", "noise_seed")
    ]
    assert len(seeds) > 5
    for entry in seeds:
        assert checked_value(entry, 2**64 - 1) == 2**64 - 1
        with pytest.raises(ValueError, match="whole number"):
            checked_value(entry, 2**64)


def test_the_sentence_names_node_and_input(ours):
    node = ours["AdaptiveSRWaveletColorFix"]
    pictures = {
        name: torch.rand(1, 4, 4, 3) for name, entry in inputs_of(node).items() if entry.get_io_type() == "IMAGE"
    }
    others = {name: entry.default for name, entry in inputs_of(node).items() if name not in pictures}
    node.execute(**pictures, **others)
    with pytest.raises(ValueError, match=r"^Wavelet Color Fix got levels = nan: expected a whole number from 1 to"):
        node.execute(**pictures, **{**others, "levels": math.nan})


def test_inputs_that_are_not_given_keep_their_defaults(ours):
    for name, node in ours.items():
        given = inspect.signature(node.execute).parameters
        assert list(given) == list(inspect.signature(node.execute.__wrapped__).parameters)[1:], name


@pytest.mark.parametrize("size", [(65536, 65536), (65536, 0)])
def test_a_picture_beyond_the_machines_memory_is_refused_before_any_work(ours, size):
    load, upscale = ours["AdaptiveSRLoadOneStepSR"], ours["AdaptiveSROneStepDistilledSR"]
    sr = load.execute("embedded: one step").args[0]
    settings = {name: entry.default for name, entry in inputs_of(upscale).items() if hasattr(entry, "default")}
    with pytest.raises(ValueError, match=r"65536 x \d+ pixels.*memory"):
        upscale.execute(
            one_step_sr=sr, image=torch.rand(1, 400, 4, 3), **{**settings, "width": size[0], "height": size[1]}
        )


def test_the_hosts_clones_and_locks_of_a_class_check_too(ours):
    from comfy_api.internal import make_locked_method_func

    for name, node in ours.items():
        clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
        assert make_locked_method_func(node, node.FUNCTION, clone), name
