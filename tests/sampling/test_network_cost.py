import json
from dataclasses import asdict
from pathlib import Path

import pytest
from adaptivesr.sampling.network_cost import COUNTED, NetworkCost

RESULTS = Path(__file__).parents[2] / "tools" / "bench" / "results" / "flops.json"


def test_the_stored_coefficients_are_those_that_were_counted():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    counted = {name: {key: row[key] for key in ("fixed", "per_cell", "per_pair")} for name, row in rows.items()}
    assert {name: asdict(cost) for name, cost in COUNTED.items()} == counted


def test_the_cost_is_symmetric_and_grows_faster_than_the_cells():
    cost = NetworkCost(0, 2, 3)
    assert cost(4, 6) == cost(6, 4) == 2 * 24 + 3 * 24**2
    assert cost(8, 6) > 2 * cost(4, 6)


@pytest.mark.parametrize(("name", "side", "tflop"), [("SD 1.5", 64, 0.803), ("SDXL", 128, 6.76)])
def test_counts_are_those_of_the_published_networks(name, side, tflop):
    assert COUNTED[name](side, side) / 1e12 == pytest.approx(tflop, rel=1e-3)
