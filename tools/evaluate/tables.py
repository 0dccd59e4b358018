"""The records of a run as a CSV, a row a picture, and as a page of Markdown: means with intervals, work, what went wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from .papers import numbers_for
from .scores import Summary, lower_is_better, summary
from .worker import DONE

Record = Mapping[str, Any]
WORK = {"seconds": "seconds a picture", "calls": "model calls a picture", "tflop": "TFLOP a picture"}


def as_csv(records: Sequence[Record], metrics: Sequence[str]) -> str:
    """Rows by name; empty cells where there is no number."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    head = ["name", "status", "width", "height", "result_width", "result_height", "seconds", "calls", "tflop"]
    rows.writerow([*head, *metrics, "notes"])
    for record in sorted(records, key=lambda found: found["name"]):
        scores = [_cell(record["scores"].get(name)) for name in metrics]
        sizes = [side or "" for side in (*record["size"], *record["result_size"])]
        work = [_cell(record[key]) for key in WORK]
        words = "; ".join([*([record["error"]] if record["error"] else []), *record["notes"]])
        rows.writerow([record["name"], record["status"], *sizes, *work, *scores, words])
    return stream.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def as_markdown(
    records: Sequence[Record],
    metrics: Sequence[str],
    *,
    title: str,
    workflow: str,
    folders: Mapping[str, float | None],
    left_out: Mapping[str, str],
    facts: Sequence[str],
) -> str:
    """workflow: its JSON, with what was changed; folders: metrics of whole folders; left_out: metrics that could not be had, and why; facts: lines on how the run was made."""
    done = [record for record in records if record["status"] == DONE]
    others = [record for record in records if record["status"] != DONE]
    lines = [f"# {title}", "", *(f"* {fact}" for fact in facts), ""]
    lines += ["| | better | mean | 95 % interval | pictures |", "|---|---|---|---|---|"]
    for name in metrics:
        better = "lower" if lower_is_better(name) else "higher"
        if name in folders:
            value = folders[name]
            lines.append(
                f"| {name} | {better} | {'-' if value is None else _number(value)} | all at once | {len(done)} |"
            )
        else:
            lines.append(_row(name, better, summary([record["scores"].get(name) for record in done])))
    lines += [_row(words, "lower", summary([record[key] for record in done])) for key, words in WORK.items()]
    lines += _papers(title, workflow, metrics)
    if left_out:
        lines += ["", "Metrics left out:", "", *(f"* {name}: {reason}." for name, reason in left_out.items())]
    if others:
        lines += ["", "Pictures set aside:", "", *(f"* `{found['name']}`: {found['error']}" for found in others)]
    noted = [record for record in done if record["notes"]]
    if noted:
        lines += ["", "Notes:", "", *(f"* `{record['name']}`: {'; '.join(record['notes'])}" for record in noted)]
    return "\n".join(lines) + "\n"


def _row(name: str, better: str, found: Summary | None) -> str:
    if found is None:
        return f"| {name} | {better} | - | - | 0 |"
    width = found.half_width
    interval = "-" if width is None else f"{_number(found.mean - width)} to {_number(found.mean + width)}"
    return f"| {name} | {better} | {_number(found.mean)} | {interval} | {found.count} |"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _papers(title: str, workflow: str, metrics: Sequence[str]) -> list[str]:
    known = numbers_for(title, workflow)
    if not known:
        return []
    columns = list(dict.fromkeys(name for entry in known for name in entry.values))
    shown = [name for name in columns if name in metrics] or columns
    lines = [
        "",
        "The paper's own numbers (other pictures than these: they say where a run on its set should come out):",
        "",
    ]
    lines += [f"| set | {' | '.join(shown)} | source |", "|---" * (len(shown) + 2) + "|"]
    for entry in known:
        cells = [f"{entry.values[name]:g}" if name in entry.values else "-" for name in shown]
        lines.append(f"| {entry.data_set} | {' | '.join(cells)} | {entry.source} |")
    return lines
