"""`dev.py soak`: two clients queue graphs on one host while a third interrupts and deletes; results repeat, memory stays."""

from __future__ import annotations

import argparse
import collections
import hashlib
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .env import server as devserver
from .env.client import Client, HostError, Prompt
from .fuzz.values import prepare, small_workflow

KINDS = ("one_step_sr", "adadiffsr_embedded", "tiled_region_upscale")
SETTLED = 50
"""Calls after which memory is compared."""
MOST_GROWTH = 1.05
REPEATED = 7
"""The seed whose results must stay what they were."""


class Soak:
    """One host, its clients, and what they saw."""

    def __init__(self, server: devserver.Server, seed: int) -> None:
        self.server, self.seed, self.counts = server, seed, collections.Counter[str]()
        self.bad: list[str] = []
        self.lock = threading.Lock()
        with server.client() as client:
            self.known = {kind: self.result(client, kind, REPEATED)[1] for kind in KINDS}
        self.settled = 0.0

    def prompt(self, kind: str, seed: int) -> Prompt:
        """A small workflow with that seed."""
        prompt = small_workflow(kind)
        for node in prompt.values():
            if "seed" in node["inputs"]:
                node["inputs"]["seed"] = seed
        return prompt

    def result(self, client: Client, kind: str, seed: int) -> tuple[str, str]:
        """How a graph ended, and a digest of its pictures (empty where the host had them cached)."""
        run = client.run(self.prompt(kind, seed), timeout=120)
        ended = run.events[-1].kind
        if ended == "execution_error":
            self.note(f"{kind}, seed {seed}: {run.error[:200]}")
        pictures = [client.image(entry) for entry in run.images() if entry["type"] == "output"] if run.succeeded else []
        return ended, hashlib.sha256(b"".join(pictures)).hexdigest() if pictures else ""

    def note(self, words: str) -> None:
        """Keeps and prints what must not be."""
        with self.lock:
            self.bad.append(words)
        print(f"{words}\n  python dev.py soak --seed {self.seed}", flush=True)

    def work(self, number: int, until: float) -> None:
        """One client: queues, sometimes deletes at once, and compares what repeats."""
        rng = random.Random(f"{self.seed} {number}")
        with self.server.client() as client:
            while time.monotonic() < until:
                kind, seed = rng.choice(KINDS), REPEATED if rng.random() < 0.3 else rng.randrange(2**64)
                try:
                    if rng.random() < 0.1:
                        client.post("/queue", {"delete": [client.queue(self.prompt(kind, seed))]})
                        ended = "deleted"
                    else:
                        ended, digest = self.result(client, kind, seed)
                        if digest and seed == REPEATED:
                            self.compare(kind, digest)
                except HostError as error:
                    self.note(f"{kind}: {error}")
                    ended = "host error"
                with self.lock:
                    self.counts[ended] += 1
                    if not self.settled and sum(self.counts.values()) >= SETTLED:
                        self.settled = memory_mb(self.server.process.pid)

    def compare(self, kind: str, digest: str) -> None:
        """Counts a repeated result, and notes one that is another."""
        with self.lock:
            self.counts["repeated"] += 1
        if digest != self.known[kind]:
            self.note(f"{kind}: seed {REPEATED} gave another picture")

    def interrupt(self, until: float) -> None:
        """Cancels whatever runs, now and then."""
        rng = random.Random(f"{self.seed} interrupts")
        with self.server.client() as client:
            while time.monotonic() < until:
                time.sleep(rng.uniform(0.2, 3.0))
                client.interrupt()
                with self.lock:
                    self.counts["interrupts sent"] += 1


def memory_mb(pid: int) -> float:
    """Resident memory of a process; 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def main(source: Path, argv: Sequence[str]) -> int:
    """Runs for so many minutes and prints the figures; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="dev.py soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with devserver.running_host(source, prepare=prepare, quiet=True) as server:
        return soak(server, options.minutes, options.seed)


def soak(server: devserver.Server, minutes: float, seed: int) -> int:
    """As `main`, on a host that runs."""
    run, until = Soak(server, seed), time.monotonic() + 60 * minutes
    threads = [threading.Thread(target=run.work, args=(number, until)) for number in (1, 2)]
    threads.append(threading.Thread(target=run.interrupt, args=(until,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with server.client() as client:
        client.post("/free", {"unload_models": False, "free_memory": True})
        for kind in KINDS:
            _, digest = run.result(client, kind, REPEATED)
            if digest:
                run.compare(kind, digest)
    last = memory_mb(server.process.pid)
    if run.settled and last > MOST_GROWTH * run.settled:
        run.note(f"memory grew from {run.settled:.0f} to {last:.0f} MB")
    calls = ", ".join(f"{count} {ended}" for ended, count in run.counts.most_common())
    print(
        f"soak, seed {seed}, {minutes:g} min: {calls}; {len(run.bad)} bad; memory {run.settled:.0f} -> {last:.0f} MB",
        flush=True,
    )
    return int(bool(run.bad))
