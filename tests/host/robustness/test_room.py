"""Pictures that the machine cannot hold are refused by every node that makes them, before anything is computed."""

from types import SimpleNamespace

import pytest
import torch

SMALL = 1 << 20
"""Bytes of memory that the machine is said to have: 170 x 170 pixels."""


@pytest.fixture
def little_memory(comfy, monkeypatch):
    monkeypatch.setattr(comfy.module("host.images").mm, "get_total_memory", lambda *_: SMALL)
    return comfy


def refused(call, *args):
    with pytest.raises(ValueError, match=r"this machine has 0 GB of memory; expected a smaller") as error:
        call(*args)
    assert "Got a result of " in str(error.value)


def test_one_step(little_memory):
    upscale_rgb = little_memory.module("host.resshift.upscale").upscale_rgb
    refused(upscale_rgb, None, torch.zeros(1, 3, 8, 8), (400, 400), None)


def test_invsr(little_memory):
    upscale_rgb = little_memory.module("host.invsr.upscale").upscale_rgb
    predictor = SimpleNamespace(config=SimpleNamespace(scale=4))
    settings = little_memory.module("host.invsr.upscale").InvSRSettings((200,))
    refused(upscale_rgb, None, (None, None), None, predictor, torch.zeros(1, 3, 100, 100), settings)


def test_cfw_decode(little_memory, monkeypatch):
    cfw = little_memory.module("host.stablesr.cfw")
    monkeypatch.setattr(cfw, "check_vae", lambda *_: None)
    loaded = SimpleNamespace(network=SimpleNamespace(config=None))
    refused(cfw.decode_fused, None, loaded, torch.zeros(1, 4, 50, 50), torch.zeros(1, 3, 8, 8), cfw.Decoding())


def test_resshift_conditioning(little_memory):
    refused(
        little_memory.module("host.conditioning").lr_condition, SimpleNamespace(scale=4), torch.zeros(1, 3, 100, 100)
    )


def test_upscale_plan(little_memory, monkeypatch):
    node = little_memory.node("AdaptiveSRUpscalePlan")
    loading = little_memory.module("host.loading")
    monkeypatch.setattr(loading, "latent_format", lambda _: SimpleNamespace(spacial_downscale_ratio=8))
    refused(node.execute.__wrapped__, node, None, 65536, 65536, 16.0, 20, 6.0, 0, 64)


def test_pad_or_crop(little_memory):
    refused(lambda: little_memory.node("AdaptiveSRPadOrCrop").execute(torch.zeros(1, 1, 1, 3), multiple=256))


@pytest.mark.parametrize("kind", ["DISTILL", "PFJ", "INVSR", "STABLESR", "TASR"])
def test_trainings(little_memory, kind):
    files = getattr(little_memory.module("host.training.files"), kind)
    refused(files.check_start, "too_large", 256, 2048)
