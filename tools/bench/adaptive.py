"""`dev.py bench adaptive`: dynamic timestep sampling (DTSS) against every step in every region, on embedded bases and held-out photos.

Parts: table (every back end at the default tau, beside as many even steps and as many steps by the input's detail alone), equal_work
(the same for a few back ends, with and without the prior), curve (over tau, with a picture), and
ablations in the form of AdaDiffSR's tables: metrics (Table 4), intervals (Table 3), pfj (Table 5), merge (Fig. 6), modes, growing and
saturation (section 3.3), and caches (the host's step caches; a part to be run alone). The base's chain loses PSNR with every step,
so fewer steps may raise it: both signs are shown, + is better.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...sampling.adaptive.choices import GainRule, GrowingRule, MergeMode
from ..env import environment as env
from ..env.in_process import enter_host
from .parts import adaptive_counts as counts
from .parts import adaptive_tables as tables
from .parts.adaptive_counts import Outcome
from .parts.heldout import DEGRADATIONS, SETS, Pixels, low_resolution, picture
from .parts.report import RESULTS, write_report

PHOTOS = ("china.jpg", "rocket.jpg", "coffee.png", "astronaut.png", "flower.jpg", "chelsea.png", "camera.png", "motorcycle_left.png")  # fmt: skip
"""Sky, flat walls and texture first."""
TAUS = (0.00125, 0.0025, 0.005, 0.01, 0.02)
INTERVALS = ("1, 1, 1, 1", "1, 2, 2, 3", "1, 2, 3, 4", "1, 2, 3, 5", "1, 3, 4, 5", "2, 3, 4, 5")
EVEN = (30, 20, 14, 10)
TOLERANCES = (0.004, 0.016)
"""Of the rule step_size in equal_work."""
Runs = dict[str, list[Outcome]]


class AdaptiveBench:
    """The pictures, and every way to sample them. `runs` is the module that knows the host."""

    def __init__(self, runs: Any, options: argparse.Namespace) -> None:
        self.runs, self.options = runs, options
        self.base = runs.AdaptiveBase(runs.Setting(sampler=options.sampler), options.base, options.gain_models)
        self.pairs = [_pair(name, options.degradation, options.crop) for name in PHOTOS[: options.photos]]
        self.seeds = range(options.seed, options.seed + options.seeds)
        self.pictures: list[Tensor | None] = [None] * (len(self.seeds) * len(self.pairs))
        self.fixed: list[Outcome] = []

    @property
    def trained(self) -> bool:
        """Whether the repository has a regressor for the base."""
        return self.base.has("mmle")

    @property
    def injects(self) -> bool:
        """Whether it has an injection."""
        return self.base.has("pfj")

    def choice(self, **values: Any) -> Any:
        """A way to sample, with the benchmark's own steps and merge mode."""
        return self.runs.Variant(**{"steps": self.options.steps, "merge": MergeMode(self.options.merge), **values})

    def gains(self, **values: Any) -> Any:
        """The same with gains of the back end that ablations use."""
        back_end = self.options.back_end or ("regressor" if self.trained else "vae")
        return self.choice(back_end=back_end, **values)

    def limits(self, **values: Any) -> Any:
        """Expert numbers of the node, its defaults but for these."""
        return self.runs.GainLimits(**values)

    def run(self, name: str, choice: Any) -> list[Outcome]:
        """Every picture sampled so with every seed, seed by seed."""
        sampled: list[tuple[Tensor, Outcome]] = []
        for seed in self.seeds:
            self.base.setting = replace(self.base.setting, seed=seed)
            before = self.pictures[len(sampled) : len(sampled) + len(self.pairs)]
            sampled += [self.base.run(low, truth, choice, then) for (low, truth), then in zip(self.pairs, before)]
        found = [outcome for _, outcome in sampled]
        print(f"{name}: {sum(o.calls for o in found)} evaluations, {sum(o.seconds for o in found):.0f} s", flush=True)
        if not self.fixed:  # the first run is the one that others are held against
            self.fixed, self.pictures = found, [shown for shown, _ in sampled]
        return found

    def every_step(self) -> Runs:
        """The fixed run, made once."""
        return {tables.FIXED: self.fixed or self.run(tables.FIXED, self.choice())}

    def even(self, found: Runs, name: str, **values: Any) -> str:
        """A run of as many even steps as another made in the mean, added to the found ones: its name."""
        steps = round(counts.mean_calls(found[name]))
        even = f"{steps} even steps"
        if even not in found:
            few = self.run(even, self.choice(steps=steps, **values))
            found[even] = [replace(o, fixed_calls=f.calls) for o, f in zip(few, self.fixed)]
        return even

    def rivals(self, found: Runs, name: str) -> list[str]:
        """Runs of about the same work without gains, added to the found ones: even steps, and steps by the input's detail."""
        mean = counts.mean_calls(found[name])
        even, prior = self.even(found, name), f"prior alone, {mean:.1f} steps"
        if prior not in found:
            found[prior] = self.run(prior, self.choice(prior_calls=mean))
        return [even, prior]

    def with_macs(self, outcomes: list[Outcome], choice: Any) -> list[Outcome]:
        """The same with multiplications counted on the first picture."""
        macs = self.base.macs(self.pairs[0][0], choice)
        return [replace(outcome, macs=macs) for outcome in outcomes]


def table(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Every back end at the default tau, and each beside its rivals: as many even steps, and as many by the input alone."""
    found = bench.every_step()
    names = ["latent", "rgb_linear", "proxies", "vae"]
    names += ["regressor", bench.runs.REGRESSOR_METRICS] if bench.trained else []
    for name in names:
        choice = bench.choice(back_end=name)
        found[name] = bench.with_macs(bench.run(name, choice), choice)
    if bench.injects:
        found["regressor + PFJ"] = bench.run("regressor + PFJ", bench.choice(back_end="regressor", pfj=1.0))
    rivals = {name: bench.rivals(found, name) for name in names}
    judge = bench.runs.REGRESSOR_METRICS if bench.trained else "vae"
    reached = [name for name in found if name != tables.FIXED and counts.reaches_goal(found[name], bench.fixed)]
    goal = f"Goal (half the evaluations saved, at most 0.1 dB and 1 % lost): reached by {', '.join(reached) or 'none'}."
    lines = [*tables.quality_table(found), "", goal, "", *tables.contest_table(found, rivals), ""]
    return {"runs": found, "goal_reached": reached}, [*lines, *tables.steps_table(found, judge)]


def equal_work(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """The contest of the table for a few back ends only: gains with the prior and alone, even steps, the prior alone; and the rule
    that looks at errors.
    """
    found = bench.every_step()
    choices: dict[str, Any] = {}
    for back_end in bench.options.contestants:
        choices[back_end] = bench.choice(back_end=back_end)
        choices[f"{back_end}, prior 0"] = bench.choice(back_end=back_end, limits=bench.limits(prior=0.0))
    for tolerance in TOLERANCES:
        choices[f"step_size {tolerance:g}"] = bench.choice(
            back_end="latent", rule=GainRule.STEP_SIZE.value, tau=tolerance
        )
    rivals: dict[str, list[str]] = {}
    for name, choice in choices.items():
        found[name] = bench.run(name, choice)
        rivals[name] = bench.rivals(found, name)
    lines = [*tables.quality_table(found), "", *tables.contest_table(found, rivals), "", *tables.steps_table(found, "")]
    return {"runs": found}, lines


def curve(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Quality against work over tau, and for fewer even steps."""
    fixed = bench.every_step()[tables.FIXED]
    names = ["latent", "proxies", "vae", *(["regressor"] if bench.trained else [])]
    curves = {
        name: {tau: bench.run(f"{name}, tau {tau:g}", bench.choice(back_end=name, tau=tau)) for tau in TAUS}
        for name in ([bench.options.back_end] if bench.options.back_end else names)
    }
    even = {steps: bench.run(f"{steps} even steps", bench.choice(steps=steps)) for steps in EVEN}
    tables.plot_curves(curves, even, fixed, RESULTS / "adaptive_curve.png")
    lines = [
        *tables.curve_table(curves, fixed),
        "",
        *tables.even_table(even, fixed),
        "",
        "![curve](adaptive_curve.png)",
    ]
    return {"curves": curves, "even": even, "fixed": fixed}, lines


def metrics(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Table 4: metrics against the input alone, those without reference alone, both; on decoded pictures."""
    lists = {"FR only (psnr, nlpd)": "psnr, nlpd", "NR only (sharpness)": "sharpness", "both": "psnr, nlpd, sharpness"}
    return _ablation(bench, {n: bench.choice(back_end="vae", metrics=m) for n, m in lists.items()})


def intervals(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Table 3: the four intervals, in steps of the grid."""
    return _ablation(bench, {f"({i})": bench.gains(limits=bench.limits(intervals=i)) for i in INTERVALS})


def modes(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """How the four intervals follow from the classes, which the paper leaves open."""
    rules = {"A ladder": "ladder", "B phase_class": "phase_class", "C magnitude": "magnitude"}
    return _ablation(bench, {name: bench.gains(mode=rule) for name, rule in rules.items()})


def pfj(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Table 5: dynamic timesteps and injection, each off and on."""
    bench.base.needs_models("pfj")
    every = bench.runs.every_step()
    choices = {
        "PFJ": bench.choice(back_end="regressor", limits=every, pfj=1.0),
        "DTSS": bench.choice(back_end="regressor"),
        "DTSS + PFJ": bench.choice(back_end="regressor", pfj=1.0),
    }
    data, lines = _ablation(bench, choices)
    without = {"PFJ": [tables.FIXED], "DTSS + PFJ": ["DTSS"]}
    return data, [
        *lines,
        "",
        "What the injection does at equal work:",
        "",
        *tables.contest_table(data["runs"], without),
    ]


def merge(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Fig. 6: how regions become one canvas, with every step and with dynamic timesteps."""
    found = bench.every_step()
    for mode in MergeMode:
        if mode.value != bench.options.merge:
            found[f"{mode.value}, every step"] = bench.run(f"{mode.value}, every step", bench.choice(merge=mode))
    for mode in MergeMode:
        found[f"{mode.value}, dynamic"] = bench.run(f"{mode.value}, dynamic", bench.gains(merge=mode))
    return {"runs": found}, [*tables.quality_table(found), "", *tables.seam_table(found)]


def growing(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """When a region grows (section 3.3): closeness and quality both rise, or either; without the prior, beside even steps."""
    found, rivals = bench.every_step(), dict[str, list[str]]()
    for back_end in ("latent", "vae"):
        for rule in GrowingRule:
            name = f"{back_end}, {rule.value}"
            limits = bench.limits(prior=0.0, growing=rule.value)
            found[name] = bench.run(name, bench.choice(back_end=back_end, limits=limits))
            rivals[name] = [bench.even(found, name)]
    return {"runs": found}, [*tables.quality_table(found), "", *tables.contest_table(found, rivals)]


def saturation(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """Regions that end with their best prediction once quality falls, by a metric without weights (PIQE), beside even steps."""
    found, rivals = bench.every_step(), dict[str, list[str]]()
    for top in (0.0, 300.0, 500.0):
        name = f"psnr, piqe; t_sat_max {top:g}"
        limits = bench.limits(prior=0.0, t_sat_max=top)
        found[name] = bench.run(name, bench.choice(back_end="vae", metrics="psnr, piqe", limits=limits))
        rivals[name] = [bench.even(found, name)]
    return {"runs": found}, [*tables.quality_table(found), "", *tables.contest_table(found, rivals)]


def caches(bench: AdaptiveBench) -> tuple[dict[str, Any], list[str]]:
    """The host's step caches on the whole frame, beside as many even steps there; regions refuse them (`bench reuse` says why)."""
    found = {tables.FIXED: bench.run(tables.FIXED, bench.choice(whole=True))}
    rivals: dict[str, list[str]] = {}
    for node in ("EasyCache", "LazyCache"):
        for threshold in (0.02, 0.05, 0.1, 0.2):
            name = f"{node} {threshold:g}"
            found[name] = bench.run(name, bench.choice(whole=True, cache=(node, threshold)))
            rivals[name] = [bench.even(found, name, whole=True)]
    about = "These runs are whole frames by ComfyUI's own sampler: one region, no overlap."
    return {"runs": found}, [about, "", *tables.quality_table(found), "", *tables.contest_table(found, rivals)]


PARTS: Mapping[str, Callable[[AdaptiveBench], tuple[dict[str, Any], list[str]]]] = {
    "table": table,
    "equal_work": equal_work,
    "curve": curve,
    "metrics": metrics,
    "intervals": intervals,
    "pfj": pfj,
    "merge": merge,
    "modes": modes,
    "growing": growing,
    "saturation": saturation,
    "caches": caches,
}


def _ablation(bench: AdaptiveBench, choices: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    found = bench.every_step()
    for name, choice in choices.items():
        found[name] = bench.run(name, choice)
    return {"runs": found}, [*tables.quality_table(found), "", *tables.steps_table(found, judge="")]


def _pair(name: str, degradation: str, crop: int) -> tuple[Tensor, Tensor]:
    """(LR image, truth), both (1, 3, H, W) in [0, 1], of the middle of a photo; crop 0 is all of it."""
    truth = picture(name)
    if crop:
        top, left = (max(0, (side - crop) // 8 * 4) for side in truth.shape[:2])
        truth = truth[top : top + crop, left : left + crop].copy()
    return _tensor(low_resolution(truth, degradation, SETS["photos"].index(name))), _tensor(truth)


def _tensor(image: Pixels) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def described(options: argparse.Namespace, title: str) -> str:
    """The setting in a sentence."""
    shown = f"the middle {options.crop} x {options.crop} pixels of " if options.crop else ""
    return (
        f"{title}, {options.steps} steps of {options.sampler}, scheduler normal, regions of 128 pixels with an overlap of 32, "
        f"merge mode {options.merge}; {shown}{min(options.photos, len(PHOTOS))} held-out photos, {options.degradation} LR. Changes against every step in "
        f"every region at the same overlap, + is better. {options.seeds} seeds; intervals (95 %) take pictures and seeds for independent."
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench adaptive", description=__doc__)
    parser.add_argument(
        "--part",
        nargs="+",
        choices=["all", *PARTS],
        default=["table"],
        help="which tables; all leaves out pfj where nothing is trained (table)",
    )
    parser.add_argument(
        "--base", choices=("teacher", "stablesr"), default="teacher", help="or the embedded base with StableSR's parts"
    )
    parser.add_argument(
        "--gain-models", type=Path, help="file of dev.py train mmle or pfj; without: the teacher's that ships"
    )
    parser.add_argument("--photos", type=int, default=4, help=f"pictures, at most {len(PHOTOS)} (4)")
    parser.add_argument("--crop", type=int, default=320, help="pixels of their middle, a multiple of 4; 0: all (320)")
    parser.add_argument("--degradation", choices=DEGRADATIONS, default="clean", help="of the LR pictures (clean)")
    parser.add_argument("--steps", type=int, default=40, help="steps of the fixed run (40)")
    parser.add_argument("--sampler", default="ddpm", help="ddpm (the paper's chain), euler, euler_ancestral (ddpm)")
    parser.add_argument("--merge", choices=[mode.value for mode in MergeMode], default="consensus", help="(consensus)")
    parser.add_argument("--back-end", default="", help="of ablations and the curve (regressor where trained, else vae)")
    parser.add_argument(
        "--contestants", nargs="+", default=["regressor", "proxies"], help="back ends of equal_work (regressor proxies)"
    )
    parser.add_argument("--seed", type=int, default=0, help="first one of the noise (0)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (3)")
    options = parser.parse_args(argv)
    enter_host(env.host_source(env.ensure_environment()))
    bench = AdaptiveBench(importlib.import_module(f"{__package__}.parts.adaptive_runs"), options)
    possible = [name for name in PARTS if name != "pfj" or bench.injects]
    if "caches" in options.part and options.part != ["caches"]:
        parser.error("caches are held against whole frames: expected --part caches alone")
    for name in [p for p in possible if p != "caches"] if "all" in options.part else options.part:
        result, lines = PARTS[name](bench)
        title = "adaptive" if name == "table" else f"adaptive_{name}"
        title += "" if options.base == "teacher" else f"_{options.base}"
        about = described(options, bench.base.base.title)
        file = options.gain_models.name if options.gain_models else None
        write_report(title, {**vars(options), "gain_models": file, **_plain(result)}, [about, "", *lines])
    return 0


def _plain(value: Any) -> Any:
    """Outcomes as dictionaries, for JSON."""
    if isinstance(value, Outcome):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
