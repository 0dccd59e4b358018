"""Means and intervals, rows of the tables, and the papers' numbers, which docs/scale.md shows as they are here."""

import csv
import io
from pathlib import Path

import pytest
from adaptivesr.tools.evaluate import papers, tables
from adaptivesr.tools.evaluate.graph import work_in
from adaptivesr.tools.evaluate.scores import summary

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def record(name, psnr=None, status="done", **others):
    work = {"seconds": 2.0, "calls": 3, "tflop": None}
    sizes = {"size": [8, 4], "result_size": [32, 16]}
    return {
        "name": name,
        "status": status,
        "error": "",
        "notes": [],
        "scores": {"psnr": psnr},
        **work,
        **sizes,
        **others,
    }


def test_the_interval_is_students():
    found = summary([1.0, None, 2.0, 3.0, float("nan")])
    assert (found.mean, found.count) == (2.0, 3) and found.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert summary([5.0]).half_width is None and summary([None]) is None


def test_rows_are_sorted_and_hold_what_was_said():
    text = tables.as_csv(
        [record("b", 30.5), record("a, 图", notes=["x", "y"]), record("c", status="failed", error="why")], ["psnr"]
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == ["a, 图", "b", "c"]
    assert (
        rows[0]["notes"] == "x; y"
        and rows[1]["psnr"] == "30.5"
        and rows[1]["tflop"] == ""
        and rows[2]["notes"] == "why"
    )


def page_of(records, title="w", workflow="{}", **others):
    options = {"folders": {}, "left_out": {}, "facts": [], **others}
    return tables.as_markdown(records, ["psnr"], title=title, workflow=workflow, **options)


def test_the_page_has_means_of_what_was_done():
    page = page_of(
        [record("a", 30.0), record("b", 32.0), record("c", 99.0, status="failed", error="why")],
        left_out={"lpips": "no"},
    )
    assert (
        "| psnr | higher | 31 | 18.29 to 43.71 | 2 |" in page
        and "| model calls a picture | lower | 3 | 3 to 3 | 2 |" in page
    )
    assert "| TFLOP a picture | lower | - | - | 0 |" in page and "* lpips: no." in page and "* `c`: why" in page


def test_a_papers_numbers_stand_beside_its_workflow_only():
    assert "| RealSR | 23.79 | arXiv 2412.03355 |" in page_of([], title="tasr")
    assert "arXiv" not in page_of([], title="mine") and "arXiv" not in page_of([], title="one_step_sr")
    assert "arXiv 2408.07476" in page_of([], title="one_step_sr", workflow='{"model_name": "TAD-SR.pth"}')


def test_the_docs_show_the_same_numbers():
    assert papers.as_table() in PAGE.read_text(encoding="utf-8")


def test_work_is_summed_over_reports():
    reports = ['{"calls": 3, "tflop": 1.5}', '{"network_calls": 2, "tflop": null}', "no json", "[1]"]
    assert work_in(reports) == (5, 1.5) and work_in(["{}"]) == (None, None)
