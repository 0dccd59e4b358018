"""Names and tooltips of all nodes in the host's `locales/` format: English from the schemas, other languages kept in step.

A translation is a file of the same shape; `dev.py locales` drops what no longer exists and says what is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .env import environment as env
from .env.server import running_host
from .env.steps import say

FOLDER = env.ROOT / "locales"
ENGLISH = "en"
SYNTAX = re.compile(r"[{}@$|]")
"""Characters that mean something to the page's translations (vue-i18n) and have to be written as literals."""

Texts = dict[str, Any]


def main(argv: list[str]) -> int:
    """Starts a host, reads its node definitions and writes every language's file anew; 1 if a translation has gaps."""
    if argv:
        raise SystemExit(f"locales takes no arguments, got {' '.join(argv)}")
    with running_host(env.host_source(env.ensure_environment())) as server, server.client() as client:
        english = node_texts(client.object_info())
    gaps = 0
    for path in sorted({file_of(ENGLISH), *FOLDER.glob("*/nodeDefs.json")}):
        texts = english if path == file_of(ENGLISH) else fitted(read(path), english)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(texts), encoding="utf-8")
        say(f"wrote {path.relative_to(env.ROOT)}")
        for missing in missing_keys(texts, english):
            say(f"  missing: {missing}")
            gaps += 1
    return int(gaps > 0)


def file_of(language: str) -> Path:
    """Where the host looks for a language's node texts."""
    return FOLDER / language / "nodeDefs.json"


def read(path: Path) -> Texts:
    """The texts of a language."""
    return json.loads(path.read_text(encoding="utf-8"))


def dump(texts: Texts) -> str:
    """The file's content."""
    return json.dumps(texts, indent=1, ensure_ascii=False) + "\n"


def node_texts(definitions: Mapping[str, Any]) -> Texts:
    """What the page shows of our nodes: {id: display_name, description, inputs {name, tooltip}, outputs {name, tooltip}}."""
    ours = {name: node for name, node in sorted(definitions.items()) if name.startswith("AdaptiveSR")}
    return {name: _texts_of(node) for name, node in ours.items()}


def _texts_of(node: Mapping[str, Any]) -> Texts:
    sections = (node["input"].get(section, {}) for section in ("required", "optional"))
    inputs = {name: spec[1] if len(spec) > 1 else {} for section in sections for name, spec in section.items()}
    tips = node.get("output_tooltips") or [None] * len(node["output_name"])
    outputs = {str(place): _shown(name, tip) for place, (name, tip) in enumerate(zip(node["output_name"], tips))}
    return {
        "display_name": literal(node["display_name"]),
        "description": literal(node["description"]),
        "inputs": {
            name: _shown(settings.get("display_name") or name, settings.get("tooltip"))
            for name, settings in inputs.items()
        },
        "outputs": outputs,
    }


def _shown(name: str, tooltip: str | None) -> Texts:
    return {"name": literal(name)} | ({"tooltip": literal(tooltip)} if tooltip else {})


def literal(text: str) -> str:
    """Text as a translation that reads the same."""
    return SYNTAX.sub(lambda found: "{'" + found.group() + "'}", text)


def fitted(texts: Texts, english: Texts) -> Texts:
    """A translation in English's order, without entries that English does not have."""
    return {
        key: fitted(texts[key], value) if isinstance(value, dict) else texts[key]
        for key, value in english.items()
        if key in texts
    }


def missing_keys(texts: Texts, english: Texts, above: str = "") -> Iterator[str]:
    """Dotted names of what a translation lacks."""
    for key, value in english.items():
        if key not in texts:
            yield above + key
        elif isinstance(value, dict):
            yield from missing_keys(texts[key], value, f"{above}{key}.")
