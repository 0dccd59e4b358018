"""Imports go one way: the table below is the architecture, and only the host's adapter and the nodes know the host."""

import ast
import sys
from collections import defaultdict
from functools import cache
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


KINDS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Constant)


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path, kind=KINDS):
    """The nodes of a kind (of those that the tests below ask for) wherever in a file they stand."""
    if kind is KINDS:
        return [node for node in ast.walk(parsed(path)) if isinstance(node, kind)]
    return [node for node in nodes(path) if isinstance(node, kind)]


@cache
def sources():
    files = [path for path in ROOT.rglob("*.py") if floor_of(path) in ALLOWED]
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


@cache
def imports(path):
    """(relative, dotted name from the pack's root) of every import in a file, wherever in the file it stands."""
    found, package = [], path.relative_to(ROOT).parts[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(False, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((False, node.module))
        elif isinstance(node, ast.ImportFrom):
            base = (*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            names = [""] if any(base) else [alias.name for alias in node.names]
            found += [(True, ".".join([part for part in base if part] + [name]).strip(".")) for name in names]
    return found


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
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = ROOT.joinpath(*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            for place in (base, *(base / alias.name for alias in node.names)):
                own |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return own, others


LISTED_AT_START = {
    "models/state_dict.py",
    "training/atomic.py",
    "training/image_folder.py",
    "training/picture_file.py",
    "training/sharpness.py",
    "training/tasr/losses.py",
    "training/tasr/rewards.py",
}
"""Beside choices and settings: small modules that name what schemas list, or the files that they offer."""


def test_the_packs_start_reads_schemas_and_waits_for_nothing_that_runs():
    """kornia and pyiqa take seconds to import, our own networks and samplers a tenth; nodes import them when they run."""
    waiting, seen = [ROOT / "nodes" / "__init__.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        own, others = imported_at_start(path)
        assert not others & {"kornia", "pyiqa"}, f"{path.relative_to(ROOT)} is imported when the pack starts"
        waiting += own - seen
    assert ROOT / "nodes" / "region.py" in seen and ROOT / "imaging" / "color.py" in seen
    late = [ROOT / folder for folder in ("models", "host/regions", "host/resshift", "sampling/adaptive", "training")]
    names = {path.relative_to(ROOT).as_posix() for path in seen if any(path.is_relative_to(folder) for folder in late)}
    assert all(
        name.endswith(("choices.py", "config.py", "__init__.py")) or name in LISTED_AT_START for name in names
    ), names


def test_every_layer_is_in_the_table():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders - {"tests", "docs"} <= ALLOWED.keys()  # docs has a script for users, which imports nothing of ours


def test_layers_do_not_shadow_the_standard_library():
    assert not ALLOWED.keys() & sys.stdlib_module_names


MOST_FILES = 25
LONGEST_TWIN = 10
ENTRY_POINTS = {"nodes", "__init__", "tools.demo", "tools.locales", "tools.tour", "tools.workflows", "tools.env.checks"}
"""Modules that dev.py or the host imports by name; so are benchmarks and recipes, which have a `main`, and golden checks with a host."""


def test_no_folder_holds_more_files_than_a_reader_takes_in():
    folders = defaultdict(int)
    for path in ROOT.rglob("*.py"):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            folders[path.parent.relative_to(ROOT).as_posix()] += 1
    assert {folder: count for folder, count in folders.items() if count > MOST_FILES} == {}


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def mentioned():
    """Dotted names that files of the pack, the tools and the tests import, and their strings, for imports by name."""
    modules, strings = set(), set()
    for path in [*sources(), *(ROOT / "tests").rglob("*.py"), ROOT / "dev.py"]:
        for _, name in imports(path):
            modules.add(name.removeprefix("adaptivesr."))
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom):
                package = path.relative_to(ROOT).parts[:-1]
                above = package[: len(package) + 1 - node.level] if node.level else ()
                base = ".".join([*above, *(node.module or "").removeprefix("adaptivesr").strip(".").split(".")]).strip(
                    "."
                )
                modules |= {f"{base}.{alias.name}".strip(".") for alias in node.names}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
    return modules, strings


def test_every_module_is_imported_by_something():
    modules, strings = mentioned()
    tails = {text.rpartition(".")[2] for text in strings if "." in text}
    unused = set()
    for path in sources():
        name = dotted(path)
        started = name in ENTRY_POINTS or name.endswith("_hosted") or "\ndef main(" in path.read_text(encoding="utf-8")
        by_name = name in strings or name.rpartition(".")[2] in tails
        if path.name != "__init__.py" and name not in modules and not started and not by_name:
            unused.add(name)
    assert unused == set()


def test_a_class_name_means_one_thing():
    places = defaultdict(set)
    for path in sources():
        for node in nodes(path, ast.ClassDef):
            places[node.name].add(dotted(path))
    assert {name: sorted(where) for name, where in places.items() if len(where) > 1} == {}


class Shape(ast.NodeTransformer):
    """Names, attributes and numbers out of the way: what is left is the shape of the logic."""

    def visit_Name(self, node):
        return ast.copy_location(ast.Name("x", node.ctx), node)

    def visit_arg(self, node):
        return ast.arg("x")

    def visit_Constant(self, node):
        return ast.copy_location(ast.Constant(0), node)

    def visit_JoinedStr(self, node):
        return ast.copy_location(ast.Constant(0), node)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        node.attr = "x"
        return node

    def visit_keyword(self, node):
        self.generic_visit(node)
        node.arg = node.arg and "x"
        return node


def long_functions():
    """(place, body without its docstring) of functions of ten or more lines of logic; schemas of nodes are data."""
    for path in sources():
        if floor_of(path) == "tools":
            continue
        for node in nodes(path, ast.FunctionDef):
            if node.name == "define_schema" or node.name.endswith("_inputs"):
                continue
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and body[-1].end_lineno - body[0].lineno + 1 >= LONGEST_TWIN:
                yield f"{dotted(path)}:{node.name}", body


def test_no_logic_of_ten_lines_stands_twice():
    twins = defaultdict(list)
    for place, body in long_functions():
        shape = "\n".join(ast.dump(Shape().visit(statement)) for statement in body)
        twins[shape].append(place)
    assert [places for places in twins.values() if len(places) > 1] == []
