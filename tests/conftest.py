"""Gives the pack an importable name, whatever its folder is called, without running its root `__init__`."""

import gc
import os
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pack = types.ModuleType("adaptivesr")
pack.__path__ = [str(ROOT)]
sys.modules.setdefault("adaptivesr", pack)

INNER_LOOP = "not host"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """`-m "not host"` is the inner loop: it leaves slow tests to `dev.py test`, and no test of it shares a server, so it uses all cores."""
    if config.option.markexpr != INNER_LOOP:
        return
    config.option.markexpr = f"{INNER_LOOP} and not slow"
    # A worker reads the same command line: it must not start workers of its own.
    worker = hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ
    if not worker and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses, config.option.dist = os.cpu_count(), "worksteal"


def pytest_sessionstart(session):
    if not session.config.getoption(
        "numprocesses", None
    ):  # the process that only hands tests out need not wait for torch
        import torch

        torch.set_num_threads(1)  # the tensors are tiny: more threads wait for each other longer than they compute


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # what is imported stays to the end: the collector need not walk it again and again
