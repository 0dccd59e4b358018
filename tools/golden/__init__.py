"""Runs every golden vector below a folder against the pack: one line per check, then the sum.

A method is one module with a table `CHECKS: {file stem: function of a Golden}`; files are laid out as
<method>/<file>.safetensors. Tensors under `w.` are weights and those with `in` in their dotted name are inputs; every
other tensor is an expected result, and one that no check has compared counts as failed.
A name in the table may be a pattern (`18_e2e_*`). Checks named `reference_only_...` follow the reference where the pack goes
another way on purpose: they keep the vectors understood, prove nothing about the pack, and their lines end in `(reference only)`.
A .json file is a golden file where the table has its whole name (`traces.json`); any other is configuration for its
neighbours, and passed over.

Files that need the networks of the host (its UNet, its autoencoder) have their checks in `<method>_hosted`, which is only
imported once the host is importable.
"""

from __future__ import annotations

import importlib
import importlib.util
from fnmatch import fnmatchcase
from pathlib import Path

from . import half
from .adadiffsr import CHECKS as ADADIFFSR
from .invsr import CHECKS as INVSR
from .invsr_training import CHECKS as INVSR_TRAINING
from .stablesr import CHECKS as STABLESR
from .tad_sr import CHECKS as TAD_SR
from .tasr import CHECKS as TASR
from .vectors import Check, CheckResult, Checks, Golden, failure

# An empty table marks a folder name as a method of its own, whose files are never guessed to be another's.
METHODS: dict[str, Checks] = {
    "tad_sr": TAD_SR,
    "stablesr": STABLESR,
    "adadiffsr": ADADIFFSR,
    "invsr": {**INVSR, **INVSR_TRAINING},
    "tasr": TASR,
}


def run(directory: Path, dtype: str | None = None) -> int:
    """Checks every golden file below directory and prints the results; 0 when all passed, else 1. dtype: networks in fp16 or bf16."""
    paths = [path for path in sorted(directory.rglob("*")) if _is_golden(path)]
    if not paths:
        print(f"{directory}  no golden file  FAIL")
    with half.precision(None if dtype is None else half.DTYPES[dtype]):
        results = [result for path in paths for result in _report(path)]
    failed = sum(not result.ok for result in results) + (not paths)
    print(f"{sum(result.ok for result in results)} passed, {failed} failed")
    return 1 if failed else 0


def _report(path: Path) -> list[CheckResult]:
    method = method_of(path)
    results = check_file(path, checks_of(method))
    mark = "  (reference only)" if is_reference_only(find_check(path, checks_of(method))) else ""
    for result in results:
        print(f"{result.line(method, path.stem)}{mark}")
    return results


def _is_golden(path: Path) -> bool:
    if path.suffix == ".json":
        return find_check(path, checks_of(method_of(path))) is not None
    return path.suffix == ".safetensors"


def _name_in_table(path: Path) -> str:
    return path.name if path.suffix == ".json" else path.stem


def checks_of(method: str) -> Checks:
    """All checks of a method; those with the host's networks only where the host can be imported."""
    own = METHODS.get(method, {})
    name = f"{__name__}.{method}_hosted"
    if importlib.util.find_spec("comfy") is None or importlib.util.find_spec(name) is None:
        return own
    return {**own, **importlib.import_module(name).CHECKS}


def find_check(path: Path, checks: Checks) -> Check | None:
    """The check of a file: that of its name, else that of the first pattern that fits it."""
    name = _name_in_table(path)
    return checks.get(name) or next((check for pattern, check in checks.items() if fnmatchcase(name, pattern)), None)


def is_reference_only(check: Check | None) -> bool:
    """Whether a check, by its name, follows the reference alone."""
    return getattr(check, "__name__", "").startswith("reference_only")


def check_file(path: Path, checks: Checks) -> list[CheckResult]:
    """The results of one file; a file that cannot be read or has no check gives one failed result."""
    check = find_check(path, checks)
    if check is None:
        return [failure("", "no check")]
    return Golden.run(path, check)


def method_of(path: Path) -> str:
    """The nearest folder that is named as a method, else the method that knows most files of the folder."""
    for folder in path.resolve().parents:
        if folder.name in METHODS:
            return folder.name
    files = list(path.parent.iterdir())
    known = {
        method: sum(find_check(file, checks) is not None for file in files)
        for method, checks in METHODS.items()
        if find_check(path, checks)
    }
    return max(known, key=lambda method: known[method], default="unknown")
