"""Gives the pack an importable name, whatever its folder is called, without running its root `__init__`."""

import sys
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]

pack = types.ModuleType("adaptivesr")
pack.__path__ = [str(ROOT)]
sys.modules.setdefault("adaptivesr", pack)

torch.set_num_threads(1)  # the tensors are tiny: more threads wait for each other longer than they compute
