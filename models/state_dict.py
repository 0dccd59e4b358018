"""State dicts as they come out of files, brought to one canonical form before anything looks at them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]

# Order matters: a file that holds both keeps the averaged weights, which are the ones meant for inference.
CONTAINERS = ("params_ema", "ema", "state_dict", "params", "model")
PREFIXES = ("module.", "_orig_mod.")
# Both follow from the window and the map size; averaged files carry them with rounding noise.
DERIVED_BUFFERS = (".attn_mask", ".relative_position_index")
LONGEST_KEY = 1000
"""Characters of a tensor's name; published ones have at most about a hundred."""
DEEPEST = 8
"""Containers inside of each other; published files have at most two."""


class UnsupportedModelError(ValueError):
    """A file holds no network that this pack knows; the message says what was found and what would match."""


def canonicalize(sd: Mapping[str, object]) -> StateDict:
    """Returns the tensors of a checkpoint, unwrapped from its containers and without wrapper prefixes."""
    inner = unwrap(sd)
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UnsupportedModelError(
            f"Expected a state dict of tensors, got {_first_keys(inner)}. Choose a file that holds network weights."
        )
    result = {_strip(key): value for key, value in tensors.items()}
    if len(result) != len(tensors):
        raise UnsupportedModelError(
            f"Two keys become one when the prefixes {', '.join(PREFIXES)} are removed: the file holds the same network "
            f"twice ({_first_keys(tensors)}). Save it again with one copy."
        )
    return result


LARGEST_WEIGHT = 1e7
"""Float16, in which many are published, ends at 65504; flipped bits give 1e20 and more, at which sums overflow and pictures come out as NaN."""


def sound(contents: object) -> Mapping[str, object]:
    """Returns what a file holds, out of its containers, with tensors that are dense, real, finite and in memory.

    UnsupportedModelError says which one is not, there or in a mapping below: all that reads sizes and values off a file may trust
    it.
    """
    result: dict[str, object] = {}
    for key, value in unwrap(contents).items():
        if isinstance(value, Tensor):
            result[str(key)] = _sound(str(key), value)
        elif isinstance(value, Mapping):
            below = cast("Mapping[object, object]", value)
            result[str(key)] = {
                str(name): _sound(f"{key}.{name}", inner) if isinstance(inner, Tensor) else inner
                for name, inner in below.items()
            }
        else:
            result[str(key)] = value
    return result


def _sound(key: str, tensor: Tensor) -> Tensor:
    """Returns a tensor that all layers can take, in a type for computing; UnsupportedModelError for any other."""
    problem = _problem(tensor)
    if problem:
        raise UnsupportedModelError(
            f"The tensor {_short(key)} {problem}: expected plain numbers, all of them in the file; the file is damaged or comes from a "
            "modified network, get it again from its publisher."
        )
    value = tensor.detach()
    if str(value.dtype).startswith(
        "torch.float8"
    ):  # a file cast for size: float16 holds all its values, and every layer takes it
        value = value.to(torch.float16)
    if value.is_floating_point() and value.numel():
        lowest, highest = (
            float(end) for end in value.aminmax()
        )  # one pass without a mask of the tensor's size; NaN shows in both
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise UnsupportedModelError(
                f"The tensor {_short(key)} holds NaN or infinite values: expected finite weights; the file is damaged or its training "
                "has failed, get it again from its publisher."
            )
        if max(-lowest, highest) > LARGEST_WEIGHT:
            raise UnsupportedModelError(
                f"The tensor {_short(key)} holds values up to {max(-lowest, highest):.1e}: expected weights below {LARGEST_WEIGHT:.0e}; the "
                "file is damaged, get it again from its publisher."
            )
    return value


def _problem(tensor: Tensor) -> str:
    """Says what a network cannot take in a tensor, or nothing."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "is stored sparsely"
    if tensor.device.type != "cpu":
        return f"has no values (device {tensor.device.type})"
    if tensor.is_quantized or tensor.is_complex():
        return f"is of the type {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"claims the size {tuple(tensor.shape)}, more than the file holds"
    return ""


def drop_derived_buffers(sd: StateDict) -> StateDict:
    """Returns sd without the buffers that the networks compute themselves (attention mask, position index)."""
    return {key: value for key, value in sd.items() if not key.endswith(DERIVED_BUFFERS)}


def check_fit(network: nn.Module, sd: StateDict) -> StateDict:
    """Returns the tensors of a canonical state dict that network stores; raises if they are not exactly its own."""
    weights = drop_derived_buffers(sd)
    expected = network.state_dict()
    problems = [f"missing {key}" for key in expected if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in expected]
    problems += [
        f"{key} is {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        raise UnsupportedModelError(
            f"The file does not fit {type(network).__name__} in {len(problems)} keys: {'; '.join(problems[:5])}. "
            "The file is damaged or comes from a modified network; get it again from its publisher."
        )
    return weights


def load_weights(network: nn.Module, sd: StateDict) -> None:
    """Puts the tensors of a canonical state dict into network, strictly, without copying them."""
    network.load_state_dict(check_fit(network, sd), strict=True, assign=True)


def require(sd: StateDict, key: str) -> Tensor:
    """Returns sd[key], or says which key the file lacks."""
    if key not in sd:
        raise UnsupportedModelError(
            f"The key {key} is missing, so the network cannot be rebuilt; the file is incomplete or of another kind "
            f"(it holds {_first_keys(sd)})."
        )
    return sd[key]


def sequence_length(sd: StateDict, pattern: str) -> int:
    """Counts i = 0, 1, ... for which the key pattern.format(i) is present."""
    count = 0
    while pattern.format(count) in sd:
        count += 1
    return count


def parameter_bytes(network: nn.Module) -> int:
    """Bytes of all parameters and buffers of network, in the dtypes they have."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * torch.empty((), dtype=tensor.dtype).element_size() for tensor in tensors)


def unwrap(sd: object) -> Mapping[str, object]:
    """Returns the mapping inside of a checkpoint's containers; UnsupportedModelError for one that holds itself, or no mapping."""
    inner: object = sd
    for _ in range(DEEPEST):
        if not isinstance(inner, Mapping):
            break
        found = cast("Mapping[str, object]", inner)
        held = next((found[name] for name in CONTAINERS if isinstance(found.get(name), Mapping)), None)
        if held is None:
            return found
        inner = held
    raise UnsupportedModelError(
        f"Expected a state dict of tensors by name, got a {type(inner).__name__}"
        f"{f' with containers more than {DEEPEST} deep' if isinstance(inner, Mapping) else ''}: choose a file that holds network weights."
    )


def _strip(key: str) -> str:
    if len(key) > LONGEST_KEY:
        raise UnsupportedModelError(
            f"A tensor's name has {len(key)} characters ({_short(key)}): expected at most {LONGEST_KEY}; the file is damaged."
        )
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), ""):
        key = key.removeprefix(prefix)
    return key


def _short(key: object) -> str:
    text = str(key)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _first_keys(sd: Mapping[str, object]) -> str:
    keys = [_short(key) for key in list(sd)[:5]]
    return f"{len(sd)} entries, the first: {', '.join(keys)}" if keys else "an empty file"


def describe_keys(sd: StateDict) -> str:
    """Says how many entries a state dict has and names the first five."""
    return _first_keys(sd)
