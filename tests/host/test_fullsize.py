"""Published sizes on fake CUDA tensors: the product's own path from a node's function to its result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def table(*arguments):
    """What the command prints; its exit code is checked."""
    # A process of its own: the host takes PyTorch's attention only where it is told so before its first import.
    words = [sys.executable, str(ROOT / "dev.py"), "fullsize", *arguments]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_selection_runs_in_half_precision():
    printed = table("quick")
    assert "One-Step Distilled SR, TAD-SR, 1 step" in printed
    for run in ("Tiled Region Sampler, SD 2.1", "TASR, lite adapters, both", "Super Resolution (StableSR) with CFW"):
        regions = next(line for line in printed.splitlines() if run in line)
        assert "| 0 + 0 |" in regions, f"fixed steps wait for nothing: {regions}"
    assert "Super Resolution (InvSR), 1 step" in printed


@pytest.mark.fullsize
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_the_whole_list_runs_in_every_dtype(dtype):
    table("--dtype", dtype)


def test_the_checks_for_a_device_run_on_a_cpu(tmp_path):
    words = [sys.executable, str(ROOT / "dev.py"), "device", "--cpu", "--small", "--out", str(tmp_path / "device.json")]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "device.json").read_text(encoding="utf-8"))["results"]
    assert {result["check"] for result in results} == {"precision", "mixed levels", "out of memory", "published"}
    assert all(result["ok"] and "skipped" not in result for result in results)
    networks = [result for result in results if result["check"] == "precision"]
    assert {result["dtype"] for result in networks} == {"float16", "bfloat16"}
    assert len({result["name"] for result in networks}) == 14
    assert all(result["error"] > 0 for result in networks), "half precision is not float32"
    assert all(result["halvings"] == 2 for result in results if result["check"] == "out of memory")


@pytest.mark.fullsize
def test_trainings_fit_24_gb_but_for_those_that_are_known_not_to():
    lines = [line.split("|")[1:-1] for line in table("trainings").splitlines() if line.startswith("|")]
    header, *rows = ([cell.strip() for cell in line] for line in lines if "---" not in line[0])
    for training, trained, frozen in (
        ("Train StableSR", 105.5, 949.6),  # encoder and SFT layers; UNet and autoencoder
        ("Train CFW", 47.2, 98.4),  # fusion layers and discriminator; autoencoder and VGG16
        ("Train Noise Predictor", 145.9, 964.3),  # predictor and discriminator; UNet, autoencoder and VGG16
    ):
        frugal, plain = (dict(zip(header, row)) for row in rows if row[0].startswith(f"{training}: default "))
        assert "without checkpointing" in plain["step"] and "without" not in frugal["step"]
        assert (float(frugal["trained, M"]), float(frugal["frozen, M"])) == (trained, frozen)
        assert float(frugal["activations, GB"]) < float(plain["activations, GB"])
        assert float(frugal["peak, GB"]) < 20, "4 GB are left for workspaces, gaps between tensors and the desktop"
    for training, trained, frozen in (
        ("Distill One-Step SR: x4", 139.4, 173.9),  # student and discriminator; teacher and autoencoder
        ("Train Time-Aware Adapter: default", 373.6, 1051.6),  # ControlNet and adapters; UNet, autoencoder and CLIP
        ("Train MMLE", 2.2, 0.0),
        ("Train PFJ", 4.6, 1057.3),  # UNet, StableSR's encoder, autoencoder and MMLE
    ):
        for row in (dict(zip(header, row)) for row in rows if row[0].startswith(training)):
            assert (float(row["trained, M"]), float(row["frozen, M"])) == (trained, frozen), row["step"]
    large = {row[0] for row in rows if float(dict(zip(header, row))["peak, GB"]) > 24}
    assert len(rows) == 18
    assert large == {
        "Train Time-Aware Adapter: full adapters, their turn",
        "Train PFJ: on StableSR, default, batch 16",
    }
