"""What users' files depend on: node ids, input ids and their order, output order."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = ROOT / "tests" / "golden" / "schemas.json"
KEPT = ("default", "min", "max", "step", "options", "control_after_generate")


@pytest.fixture(scope="module")
def schemas(server):
    """Ids, kinds, defaults and ranges of all our nodes; lists of files in folders are left out."""
    info = {name: node for name, node in server.client().object_info().items() if name.startswith("AdaptiveSR")}
    return {name: summary(node) for name, node in sorted(info.items())}


def summary(node):
    inputs = {}
    for section in ("required", "optional"):
        for name, (kind, *options) in node["input"].get(section, {}).items():
            settings = {key: options[0][key] for key in KEPT if options and key in options[0]}
            if "options" in settings:
                # Files and resumable runs (name_00001) depend on what lies in folders.
                settings["options"] = [choice for choice in settings["options"] if not re.search(r"\.|_\d{5}", choice)]
            inputs[name] = [section, kind, settings]
    outputs = [list(pair) for pair in zip(node["output_name"], node["output"])]
    return {"name": node["display_name"], "category": node["category"], "inputs": inputs, "outputs": outputs}


def test_schemas_are_as_published(schemas):
    if os.environ.get("ADAPTIVESR_RENEW_SCHEMAS"):
        SNAPSHOT.write_text(json.dumps(schemas, indent=1) + "\n", encoding="utf-8")
    assert schemas == json.loads(SNAPSHOT.read_text(encoding="utf-8")), (
        "A schema changed. If that is meant: append only, add a line to CHANGELOG.md, run `python dev.py workflows`, and renew "
        "the snapshot with ADAPTIVESR_RENEW_SCHEMAS=1."
    )


def test_every_node_has_a_help_page_and_a_row_in_the_readme(schemas):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, node in schemas.items():
        assert (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8").startswith(f"# {node['name']}\n")
        assert f"| **{node['name']}** |" in readme, f"{node['name']} has no row in README.md"


def test_workflow_files_are_what_their_source_makes(server):
    from adaptivesr.tools import workflows

    for path, content in workflows.render(server.client().object_info()).items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name} is stale: run `python dev.py workflows`"
