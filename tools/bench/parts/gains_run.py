"""What `dev.py bench gains` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from ....host.files import EMBEDDED as EMBEDDED_FILES
from ....host.files import GAIN_MODELS
from ....host.gains.choices import GainBackEnd
from ....host.gains.models import LoadedGainModels, load_gain_models, loaded_from_file
from ....host.gains.plan import metrics_of_names, regressor_metrics
from ....host.resshift.loading import EMBEDDED, load_one_step
from ....host.training.gains_base import ChainSettings, HostGainBase
from ....imaging.metrics.gain_measures import rgb_measures
from ....models.gain_regressor import Mmle
from ....sampling.noise import generator_for
from ....training.gains.mmle_labels import Labels, against_input
from ....training.gains.mmle_scores import correlation
from ....training.gains.trajectories import Trajectories, measured, run_chain
from .heldout import SETS, low_resolution, picture
from .report import write_report

SIDE = 32  # LR pixels, which are the latent cells
CHUNK, ROUNDS = 8, 20


def run(options: argparse.Namespace) -> int:
    """Chains on tiles, measured and predicted gains, and the report."""
    file = options.file
    models = (
        load_gain_models(next(iter(EMBEDDED_FILES[GAIN_MODELS])))
        if file is None
        else loaded_from_file(file, Path(file).name)
    )
    sr = load_one_step(next(name for name in EMBEDDED if "teacher" in name))
    with torch.no_grad():
        base = HostGainBase(sr.patcher, sr.vae, None, ChainSettings(options.calls), torch.float32)
        tiles = photo_tiles(options.tiles)
        rows, seconds = compared(base, models, tiles, options.sampler), costs(base, models, tiles[:1])
    lines = ["| metric | pairs | correlation of predicted and measured gains |", "|---|---|---|"]
    lines += [f"| {name} | {int(values['pairs'])} | {values['correlation']:.3f} |" for name, values in rows.items()]
    text = (
        f"{len(tiles)} regions of the eight held-out photos (mild), {options.calls} calls, {options.sampler}; all pairs 1 to 4 steps apart. "
        f"*input*: the weighted sum of the metrics against the input; both call {100 * rows['input']['same_class']:.0f} % of the pairs "
        f"changing, or still, alike at the file's tau. One region: regressor {1e3 * seconds['mmle']:.1f} ms, base {1e3 * seconds['base']:.1f} ms "
        f"({100 * seconds['mmle'] / seconds['base']:.1f} %), one thread, medians."
    )
    write_report("gains", {"rows": rows, "seconds": seconds}, [text, "", *lines])
    return 0


def photo_tiles(count: int) -> Tensor:
    """Low-resolution tiles (count, 3, SIDE, SIDE) in [0, 1], evenly taken from all tiles of the photos."""
    tiles: list[Tensor] = []
    for index, name in enumerate(SETS["photos"]):
        small = torch.from_numpy(low_resolution(picture(name), "mild", index).copy()).permute(2, 0, 1).float() / 255
        parts = small.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)  # (3, rows, columns, SIDE, SIDE)
        tiles += list(parts.flatten(1, 2).transpose(0, 1))
    places = torch.linspace(0, len(tiles) - 1, min(count, len(tiles))).round().long().tolist()
    return torch.stack([tiles[place] for place in places])


def compared(base: HostGainBase, models: LoadedGainModels, tiles: Tensor, sampler: str) -> dict[str, dict[str, float]]:
    """Correlations by metric, and of their weighted sum."""
    metrics = regressor_metrics(models)
    _, named, _ = metrics_of_names(GainBackEnd.VAE, ", ".join(metric.name for metric in metrics))
    known = {**rgb_measures(), **named}
    measures = {metric.name: known[metric.name] for metric in metrics}
    predicted, right, valid, jumps = [], [], [], []
    for index, part in enumerate(tiles.split(CHUNK)):
        seen = base.see(part)
        chain = run_chain(base, seen, sampler, generator_for(1, index))
        scores = measured(base, chain, seen.reference, measures)
        found_here = Trajectories([], tuple(measures), scores, torch.zeros(len(part)))
        labels = Labels.of(found_here, metrics, base.timesteps, models.info.t_half)
        rows, before, now = labels.all_pairs(torch.arange(len(part)))
        gains, defined = labels.gains(rows, before, now)
        predicted.append(_predicted(models.network.mmle, chain, seen.reference, base.timesteps, (rows, before, now)))
        right.append(gains)
        valid.append(defined)
        jumps.append(now - before)
    a, b, ok, jump = (torch.cat(parts) for parts in (predicted, right, valid, jumps))
    result = {
        metric.name: {"pairs": float(ok[:, i].sum()), "correlation": correlation(a[ok[:, i], i], b[ok[:, i], i])}
        for i, metric in enumerate(metrics)
    }
    sums = [against_input(gains, metrics) for gains in (a, b)]
    tau = (models.info.tau or 5e-3) * 200 / len(base.timesteps)
    alike = [(value.abs() / jump) > tau for value in sums]
    same = float((alike[0] == alike[1]).float().mean())
    result["input"] = {"pairs": float(len(a)), "correlation": correlation(*sums), "same_class": same}
    return result


def _predicted(
    network: Mmle, chain: Tensor, reference: Tensor, timesteps: tuple[float, ...], pairs: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    times, parts = torch.tensor(timesteps), []
    for rows, before, now in zip(*(part.split(64) for part in pairs), strict=True):
        parts.append(network(chain[rows, now], chain[rows, before], reference[rows], times[now], times[before]))
    return torch.cat(parts)


def costs(base: HostGainBase, models: LoadedGainModels, tile: Tensor) -> dict[str, float]:
    """Median seconds for one region: a call of the base, of the regressor, of the injection."""
    seen = base.see(tile)
    x, sigma = seen.reference, base.sigmas[:1]
    t = torch.tensor([500.0])
    calls = {
        "base": lambda: base.predict(x, sigma, seen),
        "mmle": lambda: models.network.mmle(x, x, x, t, t + 50),
    }
    if models.network.pfj is not None:
        gains = torch.zeros(1, models.config.metrics)
        calls["pfj"] = lambda: models.network.pfj(seen.condition, gains)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():  # in turns, since the machine's load changes
            start = perf_counter()
            call()
            seconds[name].append(perf_counter() - start)
    return {name: float(torch.tensor(values).median()) for name, values in seconds.items()}
