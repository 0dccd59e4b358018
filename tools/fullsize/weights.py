"""Files and state dicts of published size whose tensors are fake: keys, shapes and dtypes without values."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .recorder import patched

ROOT = Path(__file__).resolve().parents[2]
KEYS = ROOT / "tests" / "golden" / "keys"


class Maker(Protocol):
    """A recorder, or whatever makes the tensors of files."""

    def tensor(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor without values."""
        ...


def listed(recorder: Maker, name: str, *, prefix: str = "", dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of a published file by its list of keys."""
    found = {}
    for line in (KEYS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        key, shape, kind = line.split()
        sides = [int(side) for side in shape.split("x")] if shape not in ("scalar", "-", "()") else []
        found[prefix + key] = recorder.tensor(key, sides, dtype or getattr(torch, kind))
    return found


def like(recorder: Maker, network: Callable[[], torch.nn.Module], dtype: torch.dtype) -> dict[str, Tensor]:
    """State dict of a network that is built without memory."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in network().state_dict().items()}
    return {key: recorder.tensor(key, shape, dtype) for key, shape in shapes.items()}


class Files:
    """Model files that exist by name only; what the host's reader gives for them is made when it is asked."""

    def __init__(self, recorder: Maker, base: Path) -> None:
        self._recorder, self._base = recorder, base
        self._made: dict[str, tuple[Callable[[], Mapping[str, Tensor]], Mapping[str, str]]] = {}

    def put(
        self,
        folder: str,
        name: str,
        contents: Callable[[], Mapping[str, Tensor]],
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """A file of models/adaptivesr/<folder>, with the metadata that a .safetensors file may have; returns its name."""
        path = self._base / "models" / "adaptivesr" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._made[str(path.resolve())] = contents, metadata or {}
        return name

    def put_list(self, folder: str, name: str, keys: str, **options: Any) -> str:
        """A file with the keys of a published one."""
        return self.put(folder, name, lambda: listed(self._recorder, keys, **options))

    @contextmanager
    def readable(self) -> Generator[None]:
        """The host's reader knows these files."""
        utils = importlib.import_module("comfy.utils")
        read = utils.load_torch_file

        def load(path: Any, *args: Any, **kwargs: Any) -> Any:
            made = self._made.get(str(Path(path).resolve()))
            if made is None:
                return read(path, *args, **kwargs)
            contents, metadata = made
            return (dict(contents()), dict(metadata)) if kwargs.get("return_metadata") else dict(contents())

        with patched(utils, load_torch_file=load):
            yield
