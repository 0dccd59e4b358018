"""State dicts as they come out of files, brought to one canonical form before anything looks at them."""

from __future__ import annotations

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


class UnsupportedModelError(ValueError):
    """A file holds no network that this pack knows; the message says what was found and what would match."""


def canonicalize(sd: Mapping[str, object]) -> StateDict:
    """Returns the tensors of a checkpoint, unwrapped from its containers and without wrapper prefixes."""
    inner = _unwrap(sd)
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


def _unwrap(sd: Mapping[str, object]) -> Mapping[str, object]:
    for name in CONTAINERS:
        inner = sd.get(name)
        if isinstance(inner, Mapping):
            return _unwrap(cast("Mapping[str, object]", inner))
    return sd


def _strip(key: str) -> str:
    for prefix in PREFIXES:
        if key.startswith(prefix):
            return _strip(key.removeprefix(prefix))
    return key


def _first_keys(sd: Mapping[str, object]) -> str:
    keys = [str(key) for key in list(sd)[:5]]
    return f"{len(sd)} entries, the first: {', '.join(keys)}" if keys else "an empty file"


def describe_keys(sd: StateDict) -> str:
    """Says how many entries a state dict has and names the first five."""
    return _first_keys(sd)
