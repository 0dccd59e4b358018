"""One file of golden vectors, and the record of what was compared with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..device.tolerance import GOLDEN, error_in_range
from . import half

FORMULA, NETWORK, DECODED = 1e-5, 1e-4, 1e-3
"""Tolerances of the golden READMEs: formulas, networks, images decoded from quantised latents."""


CODES = ("out.indices", "out.z_q")
"""The nearest codes of a latent, of which rounding changes some: the share of those is what is told in half precision."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one comparison: the tensor's name (empty: the whole file), the numbers, the verdict."""

    name: str
    detail: str
    ok: bool

    def line(self, *place: str) -> str:
        """What is printed, the name behind its method and file."""
        return f"{'/'.join(filter(None, (*place, self.name)))}  {self.detail}  {'ok' if self.ok else 'FAIL'}"


def compared(name: str, error: float, tolerance: float) -> CheckResult:
    """A result that passes when error is within tolerance (NaN is not)."""
    return CheckResult(name, f"{error:.3e}  {tolerance:.0e}", error <= tolerance)


def failure(name: str, reason: str) -> CheckResult:
    """A result that failed before numbers could be compared."""
    return CheckResult(name, reason, ok=False)


@dataclass
class Golden:
    """The tensors and configuration of a file. Checks call `expect` for every tensor they can compute."""

    path: Path
    tensors: dict[str, Tensor]
    config: Any
    results: list[CheckResult] = field(default_factory=list[CheckResult])
    compared_keys: set[str] = field(default_factory=set[str])

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Reads a safetensors file, whose configuration is JSON in the metadata entry `config`; a .json file is all of that."""
        if path.suffix == ".json":
            return cls(path, {}, json.loads(path.read_text(encoding="utf-8")))
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
        return cls(path, tensors, json.loads(metadata.get("config", "{}")))

    @classmethod
    def run(cls, path: Path, check: Check) -> list[CheckResult]:
        """Results of a check on one file, with a failure for whatever stopped it and for each tensor it left out."""
        try:
            golden = cls.load(path)
        except (OSError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError) as error:
            return [failure("", f"unreadable: {error}")]
        try:
            check(golden)
        # What a malformed file or a missing feature raises; the other files are still to be run.
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            golden.results.append(failure("", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
        golden.results += [failure(key, "no check") for key in golden.unchecked()]
        return golden.results or [failure("", "no check")]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with prefix, without it."""
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def sibling(self, name: str) -> Golden:
        """Another file of the same folder."""
        return Golden.load(self.path.with_name(f"{name}.safetensors"))

    def expect(self, key: str, actual: Tensor, tolerance: float = FORMULA, *, calls: int = 1) -> None:
        """Compares a computed tensor with the file's; integers must be equal. A tensor the file lacks is passed over.

        calls: of networks, one behind the other, whose rounding adds up in half precision.
        """
        if key not in self.tensors:
            return
        expected, dtype = self.tensors[key], half.chosen()
        exact = not expected.is_floating_point()
        self.compared_keys.add(key)
        error, allowed = relative_error(actual, expected), 0.0 if exact else tolerance
        if dtype is not None and key in CODES and actual.shape == expected.shape:
            error = float((~torch.isclose(actual.float(), expected.float(), rtol=1e-2, atol=1e-3)).float().mean())
            allowed = half.FLIPPED[dtype]
        elif dtype is not None and not exact and tolerance >= DECODED:
            self.results.append(
                CheckResult(key, "not compared: the neighbours of a random code decode to anything", ok=True)
            )
            return
        elif dtype is not None and not exact and tolerance >= NETWORK:
            error, allowed = error_in_range(actual, expected), calls * GOLDEN[dtype]
        self.results.append(compared(key, error, allowed))

    def expect_all(self, prefix: str, actual: Iterable[tuple[str, Tensor]], tolerance: float = FORMULA) -> None:
        """Compares several tensors under one prefix."""
        for name, value in actual:
            self.expect(f"{prefix}{name}", value, tolerance)

    def given(self, *keys: str) -> None:
        """Marks tensors as inputs that their names do not mark; they must be there."""
        missing = [key for key in keys if key not in self.tensors]
        if missing:
            raise KeyError(f"inputs that the file lacks: {', '.join(missing)}")
        self.compared_keys.update(keys)

    def unchecked(self) -> list[str]:
        """Expected tensors that nothing was compared with."""
        return [key for key in self.tensors if key not in self.compared_keys and _is_expected(key)]


Check = Callable[[Golden], None]
Checks = dict[str, Check]


def _is_expected(key: str) -> bool:
    parts = key.split(".")
    return parts[0] != "w" and "in" not in parts


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """max |a - b| / max(1, max |b|); infinite when the shapes differ."""
    if actual.shape != expected.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    expected64 = expected.detach().to(torch.float64)
    difference = (actual.detach().to(torch.float64) - expected64).abs().max()
    return float(difference / expected64.abs().max().clamp(min=1.0))
