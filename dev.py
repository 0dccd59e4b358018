#!/usr/bin/env python3
"""Developer commands. Runs on any Python 3.10+; makes its own environment in a cache folder and continues inside it.

python dev.py demo        start a ComfyUI with this pack, upscale the bundled photo, save before and after
python dev.py test        lint, types and every test, those against the real host and browser included
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent

# At module scope, so that spawned workers, which re-run this file, find the package too. The root itself must not be
# importable: our `nodes` would hide the host's.
sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]
pack = types.ModuleType("adaptivesr")
pack.__path__ = [str(ROOT)]
sys.modules.setdefault("adaptivesr", pack)


def parser() -> argparse.ArgumentParser:
    """The verbs and their options; options of test, bench, train, workflows and locales go to what they start."""
    top = argparse.ArgumentParser(prog="dev.py", description="Developer commands of ComfyUI-AdaptiveSR.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    demo = verbs.add_parser("demo", help="upscale the bundled photo in a real ComfyUI")
    demo.add_argument("--json", action="store_true", help="print the results as one last line of JSON")
    demo.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for the pictures (demo_output)")
    demo.add_argument("--port", type=int, help="port of the server (default: a free one)")
    verbs.add_parser("test", help="lint, types and all tests; further arguments go to pytest", add_help=False)
    host = verbs.add_parser("host", help="start a ComfyUI with this pack and stay until Ctrl-C")
    host.add_argument("--port", type=int, default=8188, help="port of the server (8188)")
    host.add_argument(
        "--small-models",
        action="store_true",
        help="small untrained files for all example workflows: nothing to download",
    )
    golden = verbs.add_parser("golden", help="check the equations against a folder of golden vectors")
    golden.add_argument("folder", type=Path, metavar="DIR")
    golden.add_argument("--dtype", choices=("fp16", "bf16"), help="networks in half precision, with its tolerances")
    bench = verbs.add_parser("bench", help="run a benchmark of tools/bench/", add_help=False)
    bench.add_argument("name", metavar="NAME")
    train = verbs.add_parser(
        "train",
        help="run a training recipe (cfw, embedded, mmle, noise_predictor, pfj, stablesr, tadsr, tasr)",
        add_help=False,
    )
    train.add_argument("name", metavar="RECIPE")
    verbs.add_parser("evaluate", help="a folder of pictures through a workflow: pictures and tables", add_help=False)
    verbs.add_parser("fullsize", help="published sizes on fake CUDA tensors, no GPU", add_help=False)
    verbs.add_parser("device", help="numbers, seconds and memory on a GPU, as JSON", add_help=False)
    verbs.add_parser("fuzz", help="damaged files, odd values and sizes, kills while saving", add_help=False)
    verbs.add_parser("soak", help="minutes of queue calls with interrupts on one host", add_help=False)
    verbs.add_parser(
        "workflows", help="write the example workflows anew, or (--thumbnails) their pictures", add_help=False
    )
    verbs.add_parser("tour", help="take the screenshots of docs/tour.md anew", add_help=False)
    verbs.add_parser("locales", help="write the translations' files anew", add_help=False)
    return top


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit code."""
    top = parser()
    options, rest = top.parse_known_args(argv)
    if rest and options.verb in ("demo", "host", "golden"):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    for name in ("SIGTERM", "SIGHUP"):  # end like Ctrl-C: what was started is stopped on the way out
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    environment = importlib.import_module("adaptivesr.tools.env.environment")
    steps = importlib.import_module("adaptivesr.tools.env.steps")
    try:
        if options.verb == "device" and "--here" in rest:  # a machine without a network keeps its own Python
            return run_verb(options, rest, Path(sys.prefix))
        folder = environment.ensure_environment()
        environment.keep_bytecode()
        if Path(sys.prefix).resolve() != folder.resolve():
            return reenter(environment.script(folder, "python"), argv)
        return run_verb(options, rest, folder)
    except steps.StepError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr, flush=True)
        return 130


def reenter(python: Path, argv: Sequence[str]) -> int:
    """Continues with the environment's Python: in this process where the system can, else in a child."""
    command = [str(python), str(ROOT / "dev.py"), *argv]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.call(command)


def run_verb(options: argparse.Namespace, rest: list[str], environment: Path) -> int:
    """Hands over to the module behind the verb; its return value is the exit code (None is success)."""
    if options.verb == "golden":
        source = importlib.import_module("adaptivesr.tools.env.environment").host_source(environment)
        importlib.import_module("adaptivesr.tools.env.in_process").enter_host(source, cpu=True)
        result = importlib.import_module("adaptivesr.tools.golden").run(options.folder, options.dtype)
    elif options.verb in ("bench", "train"):
        result = named_module(options.verb, options.name).main(rest)
    elif options.verb in ("workflows", "locales", "tour"):
        result = importlib.import_module(f"adaptivesr.tools.{options.verb}").main(rest)
    elif options.verb == "evaluate":
        result = importlib.import_module("adaptivesr.tools.evaluate.main").main(rest, environment)
    elif options.verb in ("fullsize", "device"):
        result = importlib.import_module(f"adaptivesr.tools.{options.verb}.main").main(rest)
    elif options.verb in ("fuzz", "soak"):
        source = importlib.import_module("adaptivesr.tools.env.environment").host_source(environment)
        module = "fuzz.main" if options.verb == "fuzz" else "soak"
        result = importlib.import_module(f"adaptivesr.tools.{module}").main(source, rest)
    elif options.verb == "demo":
        demo = importlib.import_module("adaptivesr.tools.demo")
        result = demo.main(environment, out=options.out, port=options.port, as_json=options.json)
    elif options.verb == "host":
        server = importlib.import_module("adaptivesr.tools.env.server")
        result = server.stay(environment, options.port, small_models=options.small_models)
    else:
        result = importlib.import_module("adaptivesr.tools.env.checks").main(environment, rest)
    return int(result or 0)


def named_module(verb: str, name: str) -> types.ModuleType:
    """The benchmark or recipe of that name; dashes may stand for underscores."""
    known: dict[str, str] = {}
    for file in sorted(ROOT.glob("tools/bench/*.py" if verb == "bench" else "tools/train/*.py")):
        if "\ndef main(" in file.read_text(encoding="utf-8"):
            known[file.stem] = ".".join(("adaptivesr", *file.relative_to(ROOT).with_suffix("").parts))
    module = known.get(name.replace("-", "_"))
    if module is None:
        listed = ", ".join(sorted(known)) or "none yet"
        steps = importlib.import_module("adaptivesr.tools.env.steps")
        raise steps.StepError(f"There is no {verb} {name!r}; there are: {listed}.")
    return importlib.import_module(module)


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036  (a sentence for those who have an older one)
        sys.exit("error: dev.py needs Python 3.10 or newer, this is " + sys.version.split()[0])
    sys.exit(main(sys.argv[1:]))
