"""A stand-in for the GPU that the host asks: one CUDA card of a given memory, whose tensors are fake."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..env.in_process import enter_host
from .recorder import Recorder, patched, recording

GIB = 2**30
MEMORY = 24 * GIB
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def enter(source: Path) -> Path:
    """Imports the host of `source` for the CPU, with a models folder of its own; returns its base folder."""
    enter_host(source, cpu=True)
    args = importlib.import_module("comfy.cli_args").args
    base = Path(tempfile.mkdtemp(prefix="adaptivesr-fullsize-"))
    for folder in ("models", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    args.base_directory, args.use_pytorch_cross_attention = str(base), True
    args.database_url, args.disable_api_nodes = "sqlite:///:memory:", True
    importlib.import_module("adaptivesr.host.files").register_folders()
    return base


@contextmanager
def fake_gpu(dtype: str = "auto", memory: int = MEMORY) -> Generator[Recorder]:
    """The host believes in one CUDA card; networks and VAEs have that dtype ("fp16", "bf16", "fp32"; "auto": its choice)."""
    mm: Any = importlib.import_module("comfy.model_management")
    args: Any = importlib.import_module("comfy.cli_args").args
    recorder = Recorder(memory)
    comfy = Path(str(mm.__file__)).parents[1]
    recorder.places = (str(Path(__file__).resolve().parents[2]), str(comfy))
    choices = {f"{name}_{part}": name == dtype for name in HALF for part in ("unet", "vae")}
    with ExitStack() as stack:
        stack.enter_context(patched(torch.cuda, **_driver(recorder)))
        stack.enter_context(
            patched(
                mm,
                cpu_state=mm.CPUState.GPU,
                vram_state=mm.VRAMState.NORMAL_VRAM,
                current_loaded_models=[],
                NUM_STREAMS=0,
            )
        )
        stack.enter_context(patched(args, **choices))
        # In inference mode operators arrive here before autograd has taken them apart.
        utils = importlib.import_module("comfy.utils")
        plain = getattr(utils.tiled_scale_multidim, "__wrapped__", utils.tiled_scale_multidim)
        stack.enter_context(patched(utils, tiled_scale_multidim=plain))
        stack.enter_context(recording(recorder))
        yield recorder


def _driver(recorder: Recorder) -> dict[str, Any]:
    """What the host and the pack ask `torch.cuda`."""

    def free(device: Any = None) -> tuple[int, int]:
        return max(0, recorder.memory - recorder.live), recorder.memory

    def statistics(device: Any = None) -> dict[str, int]:
        return {"reserved_bytes.all.current": recorder.live, "active_bytes.all.current": recorder.live}

    def reset(device: Any = None) -> None:
        recorder.counts.peak = recorder.live

    card = SimpleNamespace(name="fake", major=9, minor=0, total_memory=recorder.memory, multi_processor_count=132)
    return {
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "mem_get_info": free,
        "memory_stats": statistics,
        "max_memory_allocated": lambda device=None: recorder.counts.peak,
        "memory_allocated": lambda device=None: recorder.live,
        "reset_peak_memory_stats": reset,
        "get_device_properties": lambda device=None: card,
        "get_device_name": lambda device=None: card.name,
        "is_bf16_supported": lambda *_, **__: True,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
    }


def node(node_id: str) -> Any:
    """A node class of the pack by its id."""
    listed: Sequence[Any] = importlib.import_module("adaptivesr.nodes").NODES
    return next(cls for cls in listed if cls.define_schema().node_id == node_id)


def run_node(node_id: str, **inputs: Any) -> tuple[Any, ...]:
    """The results of a node's function, called as the host does: without gradients."""
    with torch.inference_mode(False), torch.no_grad():
        return tuple(node(node_id).execute(**inputs).args)
