"""Few functions stand between a node and its arithmetic, so that a reader finds it."""

from pathlib import Path

import torch
from adaptivesr.tools.env.tracing import stacks

DISTILL = [
    "nodes/training/distill.py:execute",
    "host/training/distill.py:distill",
    "training/runs.py:train",
    "training/tad_sr/distillation.py:train_step",
    "training/tad_sr/distillation.py:distill_step",
    "training/tad_sr/steps.py:student_losses",
    "training/tad_sr/losses.py:per_sample_mse",
]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "how_it_works.md"


def test_distill_one_step_sr_reaches_its_loss_in_seven_functions_that_the_docs_list(comfy):
    with torch.inference_mode():
        teacher = comfy.node("AdaptiveSRLoadOneStepSR").execute("embedded: teacher, 15 steps", "auto", "auto").args[0]
        with stacks(lambda code: code.co_name == "per_sample_mse") as paths:
            comfy.node("AdaptiveSRDistillOneStepSR").execute(
                teacher, "TAD-SR", 1, images=torch.rand(1, 64, 64, 3), batch_size=1, crop_size=64, teacher_steps=2,
                degradation="bicubic", metrics="", name="path",
            )  # fmt: skip
    deepest = max((path for path in paths if path[-1] == DISTILL[-1]), key=len)
    assert len(deepest) <= 7 and deepest == DISTILL
    text = DOCS.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in DISTILL)
