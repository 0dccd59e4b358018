"""The `evaluate` verb."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...imaging.degradation.choices import PRESET_NAMES
from ..env import environment as env
from ..env.steps import StepError, file_lock, say
from . import graph, scores, tables
from . import large as large_pictures
from .blocks import pixels_in
from .pictures import Picture, list_pictures
from .run import Dispatcher, Slots, one_slot, picture_jobs
from .store import Store
from .worker import DONE, WorkerSpec

USUAL_METRICS = "psnr,ssim,piqe"


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = argparse.ArgumentParser(
        prog="dev.py evaluate",
        description="A folder of pictures through a workflow: pictures, a CSV and a table in Markdown. The same command goes on where a run "
        "stopped. See docs/scale.md.",
    )
    top.add_argument("workflow", type=Path, help="a file that ComfyUI's page saved or exported (API)")
    top.add_argument("--input", type=Path, metavar="DIR", help="pictures to upscale; with --degrade none")
    top.add_argument("--hr", type=Path, metavar="DIR", help="pictures of the same names to compare with, or to degrade")
    top.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        required=True,
        help="where everything goes; a new folder, or that of a run",
    )
    top.add_argument("--metrics", default=USUAL_METRICS, help=f"names of pyiqa with commas ({USUAL_METRICS})")
    top.add_argument(
        "--degrade", choices=PRESET_NAMES, metavar="PRESET", help=f"make the small pictures: {', '.join(PRESET_NAMES)}"
    )
    top.add_argument("--scale", type=int, default=4, help="how many times smaller --degrade makes them (4)")
    top.add_argument(
        "--seed",
        type=int,
        default=0,
        help="with a picture's name it gives the seeds of its workflow and degradation (0)",
    )
    top.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="that input wherever the workflow has it"
    )
    top.add_argument("--retry", action="store_true", help="do pictures again that a former run set aside")
    top.add_argument(
        "--url", action="append", default=[], help="attach to this ComfyUI; several times for several workers"
    )
    top.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="model files of the ComfyUI that is started (those of the one around us)",
    )
    top.add_argument("--workers", type=int, help="so many ComfyUI at once, by Ray (without: one, without Ray)")
    top.add_argument("--address", help="of a Ray cluster, such as auto or 10.0.0.1:6379")
    top.add_argument("--threads", type=int, default=0, help="of each ComfyUI on a CPU (cores divided by workers)")
    top.add_argument(
        "--cut-above",
        type=float,
        default=4.0,
        metavar="MPX",
        help="megapixels above which a picture is cut into blocks (4)",
    )
    top.add_argument(
        "--block", type=int, default=768, metavar="PX", help="side of these blocks in pixels of the input (768)"
    )
    top.add_argument(
        "--halo",
        type=int,
        default=64,
        metavar="PX",
        help="pixels of the input around each, where blocks leave a trace and are cross-faded; in steps of 32 (64)",
    )
    top.add_argument("--cpu", action="store_true", help="run ComfyUI on the CPU, whatever else there is")
    top.add_argument("--timeout", type=float, default=3600.0, help="seconds that a picture may take (3600)")
    return top


def main(argv: Sequence[str], environment: Path | None = None) -> int:
    """Runs the verb; 0 when every picture was done, 2 when some were set aside, 130 when stopped by Ctrl-C."""
    options = parser().parse_args(argv)
    spec = _spec(options, environment)
    pictures, left_out = _pictures(options)
    store = Store(options.output)
    store.open(_settings(options, spec))
    for name, reason in left_out.items():
        say(f"{name}: left out: {reason}")
    with _one_run_at_a_time(store), _terminated_as_interrupted():
        if options.retry:
            _forget_failures(store, pictures)
        try:
            records, missing = _run(options, spec, pictures, store)
        except KeyboardInterrupt:
            done = sum(store.record(picture) is not None for picture in pictures)
            say(f"stopped: {done} of {len(pictures)} pictures are done; the same command goes on")
            return 130
    return _finish(options, store, pictures, list(records.values()), missing)


def _run(
    options: argparse.Namespace, spec: WorkerSpec, pictures: Sequence[Picture], store: Store
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Records by name, and the metrics that could not be had."""
    large = large_pictures.choose(pictures, options.cut_above) if not spec.degrade else []
    usual = [picture for picture in pictures if picture not in large]
    records = {picture.name: record for picture in pictures if (record := store.record(picture)) is not None}
    missing = dict[str, str]()
    if all(picture.name in records for picture in usual):  # nothing to start a ComfyUI for
        say(f"all {len(usual)} pictures are done already" if usual else "no picture of usual size")
        missing = scores.Judges.of(spec.metrics).left_out
    else:
        with _slots(options, spec) as (slots, missing):
            dispatcher = Dispatcher(store, slots, picture_jobs(options.seed, with_references=spec.degrade is None))
            # The largest first: workers end together, and none waits long for the last picture.
            dispatcher.run(sorted(usual, key=pixels_in, reverse=True) if _is_parallel(options) else usual)
            records |= dispatcher.records
    waiting = [picture for picture in large if picture.name not in records]
    if waiting:
        run = large_pictures.LargeRun(spec, store, options.seed, options.block, options.halo)
        records |= run.all(waiting, lambda changed: _slots(options, changed))
    return records, missing


def _is_parallel(options: argparse.Namespace) -> bool:
    return options.workers is not None or options.address is not None or len(options.url) > 1


@contextlib.contextmanager
def _slots(options: argparse.Namespace, spec: WorkerSpec) -> Iterator[tuple[Slots, dict[str, str]]]:
    """One worker in this process, or as many on Ray as are asked for."""
    if not _is_parallel(options):
        with one_slot(spec) as found:
            yield found
        return
    cluster = importlib.import_module("adaptivesr.tools.evaluate.cluster")
    urls = [] if spec.recipe else options.url
    workers = options.workers or len(options.url) or cluster.slots_in(options.address, options.threads)
    with cluster.ray_slots(spec, workers=workers, urls=urls, address=options.address) as found:
        yield found


def _pictures(options: argparse.Namespace) -> tuple[list[Picture], dict[str, str]]:
    if options.degrade:
        if options.input or not options.hr:
            raise StepError("--degrade makes the small pictures out of those of --hr: expected --hr, and no --input.")
        return list_pictures(options.hr, None)
    if not options.input:
        raise StepError("Expected --input with the pictures to upscale, or --hr and --degrade to make them.")
    return list_pictures(options.input, options.hr)


def _spec(options: argparse.Namespace, environment: Path | None) -> WorkerSpec:
    source = None if options.url else _source(environment)
    around = None if source is None or env.ROOT.parent.parent != Path(source) else Path(source) / "models"
    models = options.models or around
    if options.models and not options.models.is_dir():
        raise StepError(f"--models {options.models} is no folder.")
    workers = max(1, options.workers or len(options.url) or 1)
    return WorkerSpec(
        workflow=graph.read_workflow(options.workflow),
        changes=graph.read_changes(options.set),
        metrics=scores.read_names(options.metrics),
        degrade=options.degrade,
        scale=options.scale,
        url=options.url[0] if options.url else None,
        source=source,
        models=None if models is None else str(models),
        threads=options.threads or max(1, (os.cpu_count() or 1) // workers),
        timeout=options.timeout,
        options=("--cpu",) if options.cpu else (),
    )


def _source(environment: Path | None) -> str | None:
    """The ComfyUI to start: as dev.py chooses it; without its environment the one around the pack or in COMFYUI_PATH."""
    if environment is not None:
        return str(env.host_source(environment))
    around = env.ROOT.parent.parent
    if os.environ.get("COMFYUI_PATH") or (env.ROOT.parent.name == "custom_nodes" and (around / "main.py").is_file()):
        return str(env.host_source(Path()))
    raise StepError(
        f"There is no ComfyUI around {env.ROOT}: name its folder in COMFYUI_PATH, attach to one that runs with --url, or use dev.py evaluate, "
        "which gets one."
    )


def _settings(options: argparse.Namespace, spec: WorkerSpec) -> dict[str, Any]:
    """What makes two runs the same one."""
    return {
        "workflow": graph.digest(spec.workflow),
        "changes": dict(spec.changes),
        "metrics": list(spec.metrics),
        "degrade": spec.degrade,
        "scale": spec.scale if spec.degrade else None,
        "seed": options.seed,
        "compared": options.hr is not None,
    }


def _forget_failures(store: Store, pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        record = store.record(picture)
        if record is not None and record["status"] != DONE:
            store.forget(picture)


@contextlib.contextmanager
def _one_run_at_a_time(store: Store) -> Iterator[None]:
    with file_lock(store.folder / "run.lock", waiting_for=f"pictures in {store.folder}"):
        yield


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, outside of dev.py, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(
    options: argparse.Namespace,
    store: Store,
    pictures: Sequence[Picture],
    records: list[dict[str, Any]],
    missing: dict[str, str],
) -> int:
    done = [record for record in records if record["status"] == DONE]
    metrics, missing = scores.read_names(options.metrics), dict(missing)
    if not options.hr:
        missing |= dict.fromkeys(scores.compared(metrics), "it compares with references, and there is no --hr")
    folders = dict[str, float | None]()
    for name in metrics:
        if name not in scores.OF_FOLDERS:
            continue
        folders[name], reason = None, "it compares with references, and there is no --hr"
        if options.hr and done:
            folders[name], reason = scores.of_folders(name, store.results, options.hr)
        if folders[name] is None:
            missing[name] = reason
    facts = [
        f"{len(done)} of {len(pictures)} pictures, seed {options.seed}",
        f"ComfyUI {'at ' + ', '.join(options.url) if options.url else 'started here'}",
        *([f"made small by {options.degrade}, {options.scale} times"] if options.degrade else []),
        *([f"with {', '.join(options.set)}"] if options.set else []),
    ]
    title = options.workflow.stem
    words = json.dumps([graph.read_workflow(options.workflow), options.set])
    page = tables.as_markdown(
        records, metrics, title=title, workflow=words, folders=folders, left_out=missing, facts=facts
    )
    say("\n" + page)
    wrote = [store.write("results.csv", tables.as_csv(records, metrics)), store.write("results.md", page)]
    say(f"pictures are in {store.results}, tables in {wrote[0]} and {wrote[1]}")
    return 0 if len(done) == len(pictures) else 2
