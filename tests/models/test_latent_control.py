"""DiffBIR and TASR ControlNet files: every published layout, sizes read off the keys, and what is refused."""

from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.latent_control import LatentControlConfig, join_control_file, split_control_file
from adaptivesr.models.state_dict import UnsupportedModelError

KEYS = Path(__file__).resolve().parents[1] / "golden" / "keys"


def key_list(name):
    lines = [line.split() for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    return {key: torch.empty([int(side) for side in shape.split("x")], device="meta") for key, shape, _ in lines}


@pytest.fixture(scope="module")
def control():
    return key_list("diffbir_controlnet")


@pytest.fixture(scope="module")
def adapters():
    return key_list("tasr_adapters")


def test_the_published_keys(control):
    assert len(control) == 324 and sum(value.numel() for value in control.values()) == 363_153_280
    identified = registry.identify(control)
    assert identified.kind == "latent_controlnet"
    assert identified.label == "DiffBIR-type ControlNet for SD 2.x (12 + 1 residuals)"
    config = identified.config
    assert (config.model_channels, config.channel_mult, config.num_res_blocks) == (320, (1, 2, 4, 4), (2, 2, 2, 2))
    assert (config.transformer_depth, config.transformer_depth_middle) == ((1, 1, 1, 1, 1, 1, 0, 0), 1)
    assert (config.context_dim, config.linear_projections, config.residuals) == (1024, True, 12)
    assert config.arguments()["num_head_channels"] == 64 and config.arguments()["in_channels"] == 8


def prefixed(part, prefix):
    return {f"{prefix}{key}": value for key, value in part.items()}


def layouts(control, adapters):
    first = prefixed(control, "control_model.")
    others = {"model.diffusion_model.out.2.weight": torch.empty(1), "cond_encoder.quant_conv.bias": torch.empty(1)}
    optimizer = {"state": {}, "param_groups": [1]}
    stage_two = {"checkpoint_controlnet": control, "checkpoint_adapter": adapters}
    return {
        "flat": (control, False),
        "module": (prefixed(control, "module."), False),
        "state_dict": ({"state_dict": control}, False),
        "first full checkpoint": ({"state_dict": {**first, **others}, "global_step": 3}, False),
        "stage I": ({"checkpoint": control}, False),
        "stage I of several GPUs": ({"checkpoint": prefixed(control, "module."), "epoch": 1}, False),
        "TASR": (stage_two, True),
        "TASR while training": (
            {**stage_two, "epoch": 1, "global_step": 2, "optimizer_state_dict_controlnet": optimizer},
            True,
        ),
        "TASR, wrapped": (
            {"state_dict": {name: prefixed(part, "module.") for name, part in stage_two.items()}},
            True,
        ),
        "one flat file": (join_control_file(control, adapters), True),
    }


@pytest.mark.parametrize("name", list(layouts({}, {})))
def test_every_layout(control, adapters, name):
    contents, with_adapters = layouts(control, adapters)[name]
    parts = split_control_file(contents)
    assert parts.control is not None and set(parts.control) == set(control)
    assert (set(parts.adapters or {}) == set(adapters)) if with_adapters else parts.adapters is None


def test_files_of_adapters_only(adapters):
    assert split_control_file(adapters).control is None
    assert set(split_control_file(adapters).adapters or {}) == set(adapters)
    assert split_control_file(join_control_file(None, adapters)).control is None


@pytest.mark.parametrize("contents", [{}, {"epoch": 3}, {"checkpoint_controlnet": {}}])
def test_files_without_tensors(contents):
    with pytest.raises(UnsupportedModelError, match="state dict of tensors"):
        split_control_file(contents)


def test_ordinary_controlnets_are_sent_to_the_hosts_loader(control):
    ordinary = {
        **control,
        "input_hint_block.0.weight": torch.empty(16, 3, 3, 3),
        "input_blocks.0.0.weight": torch.empty(320, 4, 3, 3),
    }
    with pytest.raises(UnsupportedModelError, match=r"own Load ControlNet Model.*training-free"):
        registry.identify(ordinary)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_blocks.0.0.weight": torch.empty(320, 9, 3, 3)}, "takes 9 input channels: expected 8"),
        ({"label_emb.0.0.weight": torch.empty(1280, 2816)}, "label embedding as SDXL"),
        ({"input_blocks.2.0.out_layers.3.weight": None}, "input_blocks.2.0.out_layers.3.weight is missing"),
        ({"zero_convs.4.0.weight": None}, "no residual block; the file is damaged"),
    ],
)
def test_other_and_damaged_networks(control, changes, sentence):
    changed = {key: value for key, value in {**control, **changes}.items() if value is not None}
    with pytest.raises(UnsupportedModelError, match=sentence):
        registry.identify(changed)


def test_the_registry_does_not_build_it(control):
    with pytest.raises(UnsupportedModelError, match="Load Time-Aware ControlNet"):
        registry.build(registry.identify(control), device="meta")


def test_widths_of_other_bases(control):
    narrow = {key: torch.empty(value.shape[0], 768, device="meta") if "attn2.to_k" in key or "attn2.to_v" in key else value for key, value in control.items()}  # fmt: skip
    config = LatentControlConfig.from_state_dict(narrow)
    assert config.base == "SD 1.x" and config.arguments()["num_heads"] == 8
