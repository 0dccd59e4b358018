"""bfloat16 for the frozen networks of a training, where the device has arithmetic for it."""

import logging

import pytest
import torch


@pytest.fixture
def networks(comfy):
    return comfy.module("host.training.networks")


@pytest.mark.parametrize(
    ("capability", "device", "expected"),
    [
        ("AVX2", "cpu", torch.float32),
        ("AVX512", "cpu", torch.bfloat16),
        ("DEFAULT", "cpu", torch.bfloat16),  # ARM has kernels of its own
        ("AVX2", "cuda", torch.bfloat16),
    ],
)
def test_cpus_that_have_none_compute_in_float32_and_say_so(networks, monkeypatch, caplog, capability, device, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(networks.mm, "get_torch_device", lambda: torch.device(device))
    with caplog.at_level(logging.WARNING):
        assert networks.precision_of("bfloat16") is expected
    assert ("computes in float32" in caplog.text) == (expected is torch.float32)
    assert networks.precision_of("float32") is torch.float32
