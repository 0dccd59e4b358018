"""Published file names lead to the schedule that the file was trained with."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adaptivesr.models.residual_unet import ResidualUNetConfig
from adaptivesr.sampling.tiled import residual_shift_presets as presets
from safetensors.torch import load_file

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def config(family):
    lines = [line.split() for line in (GOLDEN / "keys" / f"resshift_{family}.txt").read_text().splitlines()]
    return ResidualUNetConfig.from_state_dict(
        {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape, _ in lines}
    )


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("resshift_realsrx4_s15_v1.pth", "x4", presets.RESSHIFT_15),
        ("resshift_realsrx4_s15_v2.pth", "x4", presets.RESSHIFT_15),
        ("resshift_realsrx4_s15.pth", "x4", presets.RESSHIFT_15),
        ("resshift_bicsrx4_opencv_s15.pth", "x4", presets.RESSHIFT_15),
        ("resshift_bicsrx4_matlab_s15.pth", "x4", presets.RESSHIFT_15),
        ("resshift_realsrx4_s4_v3.pth", "x4", presets.RESSHIFT_4),
        ("resshift_bicsrx4_s4.pth", "x4", presets.RESSHIFT_4),
        ("ResShift_v3.safetensors", "x4", presets.RESSHIFT_4),
        ("SinSR_v1.pth", "x4", presets.SINSR),
        ("SinSR_v2.pth", "x4", presets.SINSR),
        ("upscale/sinsr-v2-fp16.safetensors", "x4", presets.SINSR),
        ("TAD-SR.pth", "x4", presets.TAD_SR),
        ("models\\tad_sr.safetensors", "x4", presets.TAD_SR),
        ("tadsr_ema.safetensors", "x4", presets.TAD_SR),
        ("stadium.safetensors", "x4", presets.RESSHIFT_15),
        ("tad/model.safetensors", "x4", presets.RESSHIFT_15),
        ("resshift_faceir_s4.pth", "face", presets.RESSHIFT_FACE),
        ("TAD-faceir.pth", "face", presets.TAD_FACE),
        ("anything.pth", "face", presets.RESSHIFT_FACE),
        ("resshift_inpainting_imagenet_s4.pth", "inpaint", presets.RESSHIFT_INPAINT),
        ("resshift_inpainting_face_s4.pth", "inpaint", presets.RESSHIFT_INPAINT),
        ("x2.pth", "x2", presets.RESSHIFT_X2),
        ("model.safetensors", "x4", presets.RESSHIFT_15),
    ],
)
def test_file_names_lead_to_their_preset(name, family, expected):
    assert presets.guess_preset(name, config(family)) == expected


def test_an_explicit_step_count_also_rules_students():
    student = presets.guess_preset("tad_sr_s4.safetensors", config("x4"))
    assert student == replace(presets.TAD_SR, num_steps=4, min_noise_level=0.2)


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("resshift_15", "realsr_s15"),
        ("resshift_4", "journal_s4"),
        ("sinsr", "sinsr_s15"),
        ("tad_sr", "sinsr_s15"),
        ("resshift_face", "journal_s4"),
        ("tad_face", "tadface_s4"),
        ("resshift_inpaint", "journal_s4"),
        ("resshift_x2", "journal_s4"),
    ],
)
def test_schedules_equal_the_reference(key, tag):
    tables = load_file(GOLDEN / "tad_sr" / "schedules.safetensors")
    made = presets.schedule(presets.PRESETS[key])
    torch.testing.assert_close(
        torch.tensor(made.sqrt_etas, dtype=torch.float64), tables[f"{tag}.sqrt_etas_f64"], atol=1e-12, rtol=0
    )


def test_every_preset_ends_in_the_same_prior():
    for preset in presets.PRESETS.values():
        made = presets.schedule(preset)
        assert math.isclose(made.sqrt_etas[-1] * made.kappa, 1.98)


def test_summaries_tell_steps_index_and_scale():
    assert "one step at time index 14 of a 15-step schedule" in presets.SINSR.summary()
    assert "one step at time index 3 of a 4-step schedule" in presets.TAD_FACE.summary()
    assert "x2, 4 steps of a 4-step schedule" in presets.RESSHIFT_X2.summary()
