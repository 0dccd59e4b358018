"""Every network in real float16 and bfloat16 against float32: small sizes and random weights, the shipped ones as they are."""

from pathlib import Path

import pytest
import torch
from adaptivesr.tools import golden
from adaptivesr.tools.device.checks import precision
from adaptivesr.tools.device.subjects import subjects
from adaptivesr.tools.device.tolerance import error_in_range

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the range of the result; digits are 2^-11 and 2^-8
FILES = Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_half_precision_is_float32_within_its_digits(dtype):
    found = {subject.name: precision(subject, CPU, dtype)["error"] for subject in subjects(small=True)}
    assert len(found) == 14
    wrong = {name: error for name, error in found.items() if not 0 < error < TOLERANCE[dtype]}
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("method", "dtype"), [("tad_sr", "fp16"), ("invsr", "bf16"), ("stablesr", "fp16"), ("tasr", "bf16")]
)
def test_golden_networks_hold_in_half_precision(method, dtype, capsys):
    golden.run(FILES / method, dtype)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL") and "no check" not in line]
    assert not lines, lines
    assert golden.half.chosen() is None and torch.nn.Linear(1, 1)(torch.ones(1)).dtype == torch.float32


def test_half_precision_is_at_work_in_golden_checks():
    layer, x = torch.nn.Linear(64, 64), torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), golden.half.precision(torch.bfloat16):
        rounded = layer(x)
    with torch.no_grad():
        plain = layer(x)
    assert rounded.dtype == torch.float32 and 1e-4 < error_in_range(rounded, plain) < 1e-2
