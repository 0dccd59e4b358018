"""Imports go one way: the table below is the architecture, and only the host's adapter and the nodes know the host."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = {"models", "sampling", "imaging", "training"}
ALLOWED = {
    "models": set(),
    "imaging": set(),
    "sampling": {"imaging"},
    "sampling/tiled": {"models", "sampling", "imaging"},
    "training": {"models", "sampling", "imaging"},
    "host": PURE,
    "nodes": PURE | {"host"},
    "tools": PURE | {"host"},
    "__init__": {"nodes"},
}
HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "node_helpers"}
HOST_MODULES |= {"execution", "server", "latent_preview", "app"}


def floor_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def row_of(path):
    """The table's row for a file: that of its folder where the folder has one, else that of its floor."""
    folder = path.relative_to(ROOT).parent.as_posix()
    return folder if folder in ALLOWED else floor_of(path)


def sources():
    files = [path for path in ROOT.rglob("*.py") if floor_of(path) in ALLOWED]
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


def imports(path):
    """(relative, dotted name from the pack's root) of every import in a file, wherever in the file it stands."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((False, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield False, node.module
        elif isinstance(node, ast.ImportFrom):
            base = (*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            names = [""] if any(base) else [alias.name for alias in node.names]
            yield from ((True, ".".join([part for part in base if part] + [name]).strip(".")) for name in names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path):
    layer, row = floor_of(path), row_of(path)
    for relative, name in imports(path):
        target = name.split(".")[0]
        if relative:
            assert target in ALLOWED[row] | {layer}, f"{row} must not import {name}"
        elif layer == "tools" and target == "adaptivesr":
            assert name.split(".")[1] in ALLOWED[layer] | {layer}, f"{layer} must not import {name}"
        else:
            assert target != "adaptivesr", f"{name}: the pack's folder may have any name, import relatively"
            assert layer in {"host", "nodes"} or target not in HOST_MODULES, f"only host and nodes know {name}"


def imported_at_start(path):
    """(own modules, other packages) that a file imports when it is itself imported."""
    own, others = set(), set()
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = ROOT.joinpath(*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            for place in (base, *(base / alias.name for alias in node.names)):
                own |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return own, others


def test_the_packs_start_waits_for_no_slow_library():
    """kornia and pyiqa take seconds to import; whoever needs them imports them where they are needed."""
    waiting, seen = [ROOT / "nodes" / "__init__.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        own, others = imported_at_start(path)
        assert not others & {"kornia", "pyiqa"}, f"{path.relative_to(ROOT)} is imported when the pack starts"
        waiting += own - seen
    assert ROOT / "training" / "tasr" / "run.py" in seen and ROOT / "imaging" / "color.py" in seen


def test_every_layer_is_in_the_table():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders - {"tests", "docs"} <= ALLOWED.keys()  # docs has a script for users, which imports nothing of ours


def test_layers_do_not_shadow_the_standard_library():
    assert not ALLOWED.keys() & sys.stdlib_module_names
