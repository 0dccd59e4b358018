"""Real-ESRGAN's ncnn layers under the keys that spandrel knows."""

import pytest
import torch
from adaptivesr.tools.embedded_weights import esrgan
from adaptivesr.tools.embedded_weights.warm_start import Stack


def test_layers_in_the_order_of_the_call_get_rrdbnets_names(monkeypatch, tmp_path):
    names = list(esrgan.esrgan_names())
    assert len(names) == len(set(names)) == 1 + 23 * 3 * 5 + 1 + 4
    assert (names[1], names[-6], names[-1]) == ("body.0.rdb1.conv1", "body.22.rdb3.conv5", "conv_last")
    layers = [(torch.full((1, 1, 3, 3), float(i)), torch.zeros(1)) for i in range(len(names))]
    monkeypatch.setattr(esrgan, "read_layers", lambda *_: Stack(layers, []))
    state = esrgan.esrgan_state(tmp_path / "x.param", tmp_path / "x.bin")
    assert [float(state[f"{name}.weight"].mean()) for name in names] == list(map(float, range(len(names))))
    monkeypatch.setattr(esrgan, "read_layers", lambda *_: Stack(layers[:-1], []))
    with pytest.raises(ValueError, match="has 350 convolutions: expected RRDBNet's 351"):
        esrgan.esrgan_state(tmp_path / "x.param", tmp_path / "x.bin")
