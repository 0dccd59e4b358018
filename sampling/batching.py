"""Running many rows through a network in batches that fit: halved when memory runs out, never silently wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class BatchSize:
    """How many rows go into one call; it only ever shrinks."""

    rows: int
    halvings: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"Expected a batch of at least 1 row, got {self.rows}.")

    def halve(self) -> None:
        """Half of the rows, at least one."""
        self.rows = max(1, self.rows // 2)
        self.halvings += 1


def run_batches(
    items: Sequence[Item],
    size: BatchSize,
    call: Callable[[Sequence[Item]], Result],
    is_out_of_memory: Callable[[Exception], bool],
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Yields (items, call(items)) for consecutive runs of at most size.rows items.

    When a call of several rows runs out of memory it is repeated with half of them; with one row the error is raised.
    """
    position = 0
    while position < len(items):
        chunk = items[position : position + size.rows]
        try:
            result = call(chunk)
        except Exception as error:
            if len(chunk) == 1 or not is_out_of_memory(error):
                raise
            result = None
        # outside of the except block, so that the failed call's tensors are free before the next one
        if result is None:
            size.halve()
            continue
        yield chunk, result
        position += len(chunk)


def run_halved(
    call: Callable[[int], Result], size: int, smallest: int, is_out_of_memory: Callable[[Exception], bool]
) -> tuple[Result, int]:
    """Returns call(size), repeated with half of the size down to the smallest as memory runs out, and the halvings."""
    halvings = 0
    while True:
        try:
            return call(size), halvings
        except Exception as error:
            if size <= smallest or not is_out_of_memory(error):
                raise
        size = max(smallest, size // 2)
        halvings += 1


def finite_rows(x: Tensor) -> Tensor:
    """Tells which rows of x (N, ...) hold finite values only: (N,) of bool, where x is."""
    return torch.isfinite(x).flatten(1).all(1)


def nonfinite_rows(x: Tensor) -> list[int]:
    """Returns the indices of the rows of x (N, ...) that hold a value which is not finite."""
    finite: list[bool] = finite_rows(x).tolist()
    return [i for i, whole in enumerate(finite) if not whole]


def retry_nonfinite(predict: Callable[..., Tensor], rows: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Returns predict(*rows) for rows (N, ...) and how many of them were not finite: those are predicted once more in float32."""
    found = predict(*rows)
    # A wait for the device, once a call: one-step chains and predictors make few calls, and the next one starts from this result.
    bad = nonfinite_rows(found)
    if bad:
        found = found.float()
        found[bad] = predict(*(row[bad] for row in rows), full_precision=True).to(found)
    return found, len(bad)


def distinct_rows(*tensors: Tensor) -> tuple[list[int], list[int]]:
    """First indices of the rows that differ in any of the tensors (N, ...), and for each row its place among them."""
    flat = [tensor.reshape(len(tensor), -1) for tensor in tensors]
    equal = [torch.stack([(part == row).all(dim=1) for row in part]) for part in flat]  # (N, N) each
    same: list[list[bool]] = torch.stack(equal).all(dim=0).tolist()
    # A row that equals none before it is a first one; NaN equals nothing, itself included.
    first = [next((j for j in range(i) if row[j]), i) for i, row in enumerate(same)]
    kept = sorted(set(first))
    return kept, [kept.index(i) for i in first]
