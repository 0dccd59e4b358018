"""Starting and stopping a child server, without a real host."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from adaptivesr.tools.demo import with_image
from adaptivesr.tools.env import server
from adaptivesr.tools.env.client import Client, HostError, nodes_of_class
from adaptivesr.tools.env.steps import StepError

# Answers like a host: /system_stats and /object_info; starts a child of its own, whose id it logs.
STAND_IN = """
import http.server, json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({NODES}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def stand_in(folder: Path, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(textwrap.dedent(body), encoding="utf-8")
    return folder


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")


def test_a_port_in_use_is_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StepError, match=f"Port {port} is in use"):
            server.check_port(port)


def test_a_host_that_dies_shows_the_end_of_its_log(tmp_path):
    source = stand_in(tmp_path / "host", "raise SystemExit('no such library')")
    words = r"ended with code 1 while starting[\s\S]*no such library"
    with pytest.raises(StepError, match=words), server.running_host(source, quiet=True):
        pass


def test_a_host_without_our_nodes_is_refused(tmp_path):
    source = stand_in(tmp_path / "host", STAND_IN.replace("{NODES}", "{'KSampler': {}}"))
    with pytest.raises(StepError, match="none of the pack's nodes"), server.running_host(source, quiet=True):
        pass


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_termination_signal_acts_like_ctrl_c(tmp_path):
    source = stand_in(tmp_path / "host", STAND_IN.replace("{NODES}", "{'AdaptiveSRx': {}}"))
    with pytest.raises(KeyboardInterrupt), server.running_host(source, quiet=True) as running:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert running.process.poll() is not None and not running.base.exists()


@pytest.mark.skipif(os.name != "posix", reason="looks at process ids")
def test_everything_that_was_started_is_stopped(tmp_path):
    source = stand_in(tmp_path / "host", STAND_IN.replace("{NODES}", "{'AdaptiveSRx': {}}"))
    with pytest.raises(KeyboardInterrupt), server.running_host(source, quiet=True) as running:
        child = int(running.log_text().split()[1])
        assert alive(child) and alive(running.process.pid)
        raise KeyboardInterrupt
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child) and running.process.poll() is not None and not running.base.exists()


def test_no_host_is_a_sentence():
    client = Client(f"http://127.0.0.1:{server.free_port()}")
    with pytest.raises(HostError, match="does not answer"):
        client.system_stats()


def test_nodes_are_found_by_class_and_the_prompt_is_not_changed():
    prompt = {
        "7": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "x": {"class_type": "SaveImage", "inputs": {}},
    }
    assert nodes_of_class(prompt, "LoadImage") == ["7"]
    assert with_image(prompt, "b.png")["7"]["inputs"]["image"] == "b.png"
    assert prompt["7"]["inputs"]["image"] == "a.png"


def test_the_pack_is_linked_under_any_name(tmp_path):
    server.link_pack(tmp_path / "custom_nodes", "Some-Pack.v2")
    assert (tmp_path / "custom_nodes" / "Some-Pack.v2" / "dev.py").is_file()


STARTER = """
import sys, time, types
from pathlib import Path
pack = types.ModuleType("adaptivesr")
pack.__path__ = [sys.argv[1]]
sys.modules["adaptivesr"] = pack
from adaptivesr.tools.env import server
with server.running_host(Path(sys.argv[2]), quiet=True, guarded=True, options=("--cpu",)) as running:
    print(running.process.pid, running.base, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_guarded_host_ends_with_a_starter_that_is_killed(tmp_path):
    source = stand_in(tmp_path / "host", STAND_IN.replace("{NODES}", "{'AdaptiveSRx': {}}"))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", STARTER, str(root), str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        pid, base = starter.stdout.readline().split()
        child = int((Path(base) / "host.log").read_text(encoding="utf-8").split()[1])
        assert alive(int(pid)) and alive(child)
        starter.kill()
    deadline = time.monotonic() + 10
    while (alive(int(pid)) or alive(child) or Path(base).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(pid)) and not alive(child) and not Path(base).exists()
