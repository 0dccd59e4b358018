"""Every name of ComfyUI's modules that the pack touches is there in each host source at hand.

Read, not run: it also tells what a newer ComfyUI dropped, before that can be started. ADAPTIVESR_NEWER_HOST names its folder.
"""

import ast
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {name: os.environ.get(f"ADAPTIVESR_{name}") for name in ("OLDEST_HOST", "HOST", "NEWER_HOST")}
TOPS = (
    "comfy",
    "comfy_api",
    "comfy_execution",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "server",
)


def touched() -> dict[tuple[str, str], str]:
    """(module, name) to the line that touches it, of what host/ and nodes/ take from ComfyUI without asking by hasattr."""
    found: dict[tuple[str, str], str] = {}
    asked_for: set[tuple[str, str]] = set()
    for path in sorted([*ROOT.glob("host/**/*.py"), *ROOT.glob("nodes/**/*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases: dict[str, str] = {}
        for node in ast.walk(tree):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                for name in node.names:
                    if name.name.split(".")[0] in TOPS:
                        aliases[name.asname or name.name] = name.name
                        found[name.name, ""] = where
            elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in TOPS:
                for name in node.names:
                    found[node.module or "", name.name] = where
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
                if module := aliases.get(ast.unparse(node.value)):
                    found[module, node.attr] = f"{path.relative_to(ROOT)}:{node.lineno}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
                place, name = map(ast.unparse, node.args)
                asked_for.add((aliases.get(place, ""), name.strip("'")))
    return {key: where for key, where in found.items() if key not in asked_for}


def source_of(host: Path, module: str) -> Path | None:
    """The file of a module below host; None if there is none."""
    place = host.joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def has_name(host: Path, module: str, name: str) -> bool:
    """Whether a module below host defines or imports name at its top level, or is a package with such a module."""
    source = source_of(host, module)
    folder = host.joinpath(*module.split("."))
    if (folder / f"{name}.py").is_file() or (folder / name).is_dir():
        return True
    return source is not None and name in names_of(ast.parse(source.read_text(encoding="utf-8")).body)


def names_of(statements: list[ast.stmt]) -> set[str]:
    """What statements bind, those within if, try and with included."""
    bound: set[str] = set()
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(name.asname or name.name).split(".")[0] for name in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        else:
            blocks = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(node, "handlers", [])]
            bound |= set().union(*map(names_of, blocks))
    return bound


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_has_every_name_that_the_pack_touches(host):
    if not HOSTS[host]:
        pytest.skip(f"ADAPTIVESR_{host} does not name a ComfyUI")
    folder = Path(HOSTS[host])
    names = touched()
    assert len(names) > 60, "nothing was read"
    missing = {
        f"{module}.{name}".rstrip("."): where
        for (module, name), where in names.items()
        if (not has_name(folder, module, name) if name else source_of(folder, module) is None)
    }
    assert missing == {}


def test_a_name_that_is_gone_is_seen(tmp_path):
    (tmp_path / "comfy").mkdir()
    text = "import a.b\ntry:\n    from x import y as kept\nexcept ImportError:\n    other = 1\nif 1:\n    def made(): ...\n"
    (tmp_path / "comfy" / "sd.py").write_text(text, encoding="utf-8")
    seen = {name: has_name(tmp_path, "comfy.sd", name) for name in ("a", "kept", "other", "made", "y", "VAE")}
    assert seen == {"a": True, "kept": True, "other": True, "made": True, "y": False, "VAE": False}
    assert has_name(tmp_path, "comfy", "sd") and not has_name(tmp_path, "comfy", "clip")
