"""A stand-in for ComfyUI that starts in a moment: what a worker asks of a host, and pictures that kill it, fail on it or take long."""

import io
import json
import os
import textwrap
from pathlib import Path

import pytest
from PIL import Image

STAND_IN = '''
"""Enlarges pictures four times; answers /system_stats, /object_info, /upload/image, /prompt, /history and /view. Writes what it does to a diary."""
import http.server, io, json, os, sys, threading, time, urllib.parse, uuid
from pathlib import Path
from PIL import Image

base = Path(sys.argv[sys.argv.index("--base-directory") + 1])
port = int(sys.argv[sys.argv.index("--port") + 1])
diary = Path(os.environ["STAND_IN_DIARY"])
delay = float(os.environ.get("STAND_IN_DELAY", "0"))
images, history = {}, {}
(diary / f"host {os.getpid()} of {os.getppid()}").touch()

def note(word, name):
    with (diary / "log").open("a") as file:
        file.write(f"{word} {name}\\n")

def run(prompt_id, prompt):
    node = next(node for node in prompt.values() if node["class_type"] == "LoadImage")
    seed = next(node["inputs"]["seed"] for node in prompt.values() if "seed" in node["inputs"])
    name = node["inputs"]["image"]
    note("begins", name)
    picture = Image.open(io.BytesIO(images[name])).convert("RGB")
    time.sleep(delay)
    corner = picture.getpixel((0, 0))
    if corner == (255, 0, 0):
        os._exit(3)
    if corner == (0, 255, 0):
        messages = [["execution_error", {"node_type": "Upscale", "exception_message": "this picture cannot be upscaled"}]]
        history[prompt_id] = {"status": {"status_str": "error", "messages": messages}, "outputs": {}}
        return
    large = picture.resize((4 * picture.width, 4 * picture.height), Image.Resampling.NEAREST)
    large.putpixel((0, 0), (seed & 255, seed >> 8 & 255, seed >> 16 & 255))
    stream = io.BytesIO()
    large.save(stream, "PNG")
    images[f"{prompt_id}.png"] = stream.getvalue()
    result = next(key for key, node in prompt.items() if node["class_type"] == "PreviewImage")
    report = next(key for key, node in prompt.items() if node["class_type"] == "PreviewAny")
    outputs = {result: {"images": [{"filename": f"{prompt_id}.png", "type": "temp", "subfolder": ""}]}}
    outputs[report] = {"text": [json.dumps({"calls": 7, "tflop": 0.5})]}
    history[prompt_id] = {"status": {"status_str": "success", "messages": []}, "outputs": outputs}
    note("ends", name)

NODES = {
    "LoadImage": {"output_name": ["IMAGE", "MASK"], "input": {"required": {"image": ["COMBO", {"image_upload": True}]}}},
    "AdaptiveSRUpscale": {"output_name": ["image", "report"], "input": {"required": {"image": ["IMAGE"], "seed": ["INT", {"control_after_generate": True}]}}},
    "PreviewImage": {"output_name": [], "input": {"required": {"images": ["IMAGE"]}}},
    "SaveImage": {"output_name": [], "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}}},
}

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = urllib.parse.urlparse(self.path)
        if path.path == "/view":
            self.answer(images[urllib.parse.parse_qs(path.query)["filename"][0]])
        elif path.path.startswith("/history/"):
            key = path.path.split("/")[-1]
            self.answer(json.dumps({key: history[key]} if key in history else {}).encode())
        else:
            self.answer(json.dumps(NODES if path.path == "/object_info" else {}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            head, _, content = body.partition(b"\\r\\n\\r\\n")
            name = head.split(b'filename="')[1].split(b'"')[0].decode()
            images[f"{name} [temp]"] = content
            self.answer(json.dumps({"name": name}).encode())
        elif self.path == "/prompt":
            key = uuid.uuid4().hex
            threading.Thread(target=run, args=(key, json.loads(body)["prompt"]), daemon=True).start()
            self.answer(json.dumps({"prompt_id": key}).encode())
        else:
            self.answer(b"{}")

http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


def workflow():
    """In API form: a picture goes through one node with a seed and is saved."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {"class_type": "AdaptiveSRUpscale", "inputs": {"image": ["1", 0], "seed": 5}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }


class Diary:
    """What stand-ins wrote: their processes, and the pictures that they began and ended."""

    def __init__(self, folder: Path):
        self.folder = folder

    def lines(self):
        file = self.folder / "log"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def count(self, word):
        return sum(line.startswith(word) for line in self.lines())

    def hosts(self):
        """(process, its parent) of every stand-in that was ever started."""
        words = [file.name.split() for file in self.folder.glob("host *")]
        return [(int(found[1]), int(found[3])) for found in words]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " not in stat.read_text(encoding="utf-8")


@pytest.fixture
def diary(tmp_path):
    (tmp_path / "diary").mkdir()
    return Diary(tmp_path / "diary")


@pytest.fixture
def source(tmp_path, diary, monkeypatch):
    """The stand-in's folder, and variables that its processes inherit."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "main.py").write_text(textwrap.dedent(STAND_IN), encoding="utf-8")
    monkeypatch.setenv("STAND_IN_DIARY", str(diary.folder))
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A function that fills a folder with small pictures, the first ones the largest; others by name and colour."""

    def fill(count, folder="input", **others):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for index in range(count):
            if (place / f"p{index:02d}.png").exists():
                continue
            Image.new("RGB", (30 - index, 5), (10 * index % 200, 90, 30)).save(place / f"p{index:02d}.png")
        for name, colour in others.items():
            Image.new("RGB", (4, 4), colour).save(place / f"{name}.png")
        return place

    return fill


@pytest.fixture
def workflow_file(tmp_path):
    file = tmp_path / "stand_in.json"
    file.write_text(json.dumps(workflow()), encoding="utf-8")
    return file


def pixels(file):
    with Image.open(io.BytesIO(Path(file).read_bytes())) as image:
        return image.convert("RGB").tobytes()
