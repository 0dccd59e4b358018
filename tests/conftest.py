"""Gives the pack an importable name, whatever its folder is called, without running its root `__init__`."""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

pack = types.ModuleType("adaptivesr")
pack.__path__ = [str(ROOT)]
sys.modules.setdefault("adaptivesr", pack)
