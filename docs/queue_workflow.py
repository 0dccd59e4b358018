"""Queues a workflow of this pack on a running ComfyUI and saves what it makes. Needs Python only.

    python docs/queue_workflow.py photo.png --workflow workflows/api/one_step_sr.json --set scale=2 --set seed=7

`--set name=value` changes that input wherever the workflow has it; values are JSON, or text where they are not.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

WORKFLOW = Path(__file__).resolve().parents[1] / "workflows" / "api" / "one_step_sr.json"


def call(url: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    """GET, or POST where there is a body."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind} if body else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:  # a refused workflow: the answer says which input of which node
        raise SystemExit(error.read().decode("utf-8")) from error
    except urllib.error.URLError as error:
        raise SystemExit(
            f"No ComfyUI answers at {url}: {error.reason}. Start one, or say where it is with --host."
        ) from error


def upload(host: str, picture: Path) -> str:
    """Puts a picture into the host's input folder; the name under which LoadImage finds it."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{picture.name}"\r\n\r\n'
    body = head.encode() + picture.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    return json.loads(call(f"{host}/upload/image", body, f"multipart/form-data; boundary={mark}"))["name"]


def with_reports(prompt: dict[str, Any], host: str) -> dict[str, Any]:
    """The workflow with a PreviewAny on every output named `report`, so that the history holds its text."""
    shown = dict(prompt)
    for node_id, node in prompt.items():
        definition = json.loads(call(f"{host}/object_info/{node['class_type']}"))[node["class_type"]]
        if "report" in definition["output_name"]:
            place = [node_id, definition["output_name"].index("report")]
            shown[f"report of {node_id}"] = {"class_type": "PreviewAny", "inputs": {"source": place}}
    return shown


def wait(host: str, prompt_id: str) -> dict[str, Any]:
    """The finished prompt's record; for progress while it runs, read the host's websocket instead."""
    while prompt_id not in (history := json.loads(call(f"{host}/history/{prompt_id}"))):
        time.sleep(0.5)
    return history[prompt_id]


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow in the API format, which maps node ids to their class and inputs; the page saves another one by default."""
    try:
        prompt = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read as a workflow: {error}") from error
    if not isinstance(prompt, dict) or not all(
        isinstance(node, dict) and "class_type" in node for node in prompt.values()
    ):
        raise SystemExit(
            f"{path} is not in the API format: take a file of workflows/api, or save one with Workflow > Export (API) in ComfyUI's page."
        )
    return prompt


def read_changes(words: list[str], prompt: dict[str, Any]) -> dict[str, str]:
    """What --set says, by the name of an input that the workflow has."""
    if wrong := [word for word in words if "=" not in word]:
        raise SystemExit(f"Expected --set NAME=VALUE, got {wrong[0]!r}.")
    changes = dict(word.split("=", 1) for word in words)
    known = {name for node in prompt.values() for name in node.get("inputs", {})}
    if unknown := sorted(changes.keys() - known):
        raise SystemExit(f"The workflow has no input {unknown[0]!r}: expected one of {', '.join(sorted(known))}.")
    return changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--workflow", type=Path, default=WORKFLOW)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--host", default="http://127.0.0.1:8188")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()

    options.host = options.host.rstrip("/")
    prompt = read_workflow(options.workflow)
    changes = read_changes(options.set, prompt)
    if not options.picture.is_file() or not options.out.is_dir():
        raise SystemExit(f"Expected a picture and a folder for results, got {options.picture} and {options.out}.")
    name = upload(options.host, options.picture)
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = name
        for key in changes.keys() & node["inputs"].keys():
            try:
                node["inputs"][key] = json.loads(changes[key])
            except ValueError:
                node["inputs"][key] = changes[key]

    body = json.dumps({"prompt": with_reports(prompt, options.host)}).encode()
    record = wait(options.host, json.loads(call(f"{options.host}/prompt", body))["prompt_id"])
    if record["status"]["status_str"] != "success":
        raise SystemExit(json.dumps(record["status"]["messages"][-1], indent=1))
    for node_id, output in record["outputs"].items():
        for image in output.get("images", []):
            if image["type"] == "output":
                content = call(f"{options.host}/view?{urllib.parse.urlencode(image)}")
                (options.out / image["filename"]).write_bytes(content)
                print(options.out / image["filename"])
        if node_id.startswith("report of "):
            print(node_id, output["text"][0])


if __name__ == "__main__":
    main()
