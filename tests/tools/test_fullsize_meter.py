"""What the count of a training step at published size rests on: memory of a backward, checkpointing, and CUDA's autocast."""

import copy

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.tools.fullsize.meter import bytes_of, metering
from adaptivesr.training.checkpointing import recompute
from torch import nn

ROWS, WIDTH = 64, 128
MAP = 4 * ROWS * WIDTH


def chain(layers=4):
    """Layers whose input only is kept for the way back."""
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))


def step(network, meter, x):
    meter.last(network.parameters())
    meter.learns(network)
    meter.start()
    network(x).sum().backward()


def test_a_backward_is_twice_the_arithmetic_of_its_forward():
    with metering() as meter:
        network, x = chain(), torch.empty(ROWS, WIDTH)
        step(network, meter, x)
        assert meter.flop == (4 + 4 + 3) * 2 * ROWS * WIDTH * WIDTH, "no layer asks for the gradient of the first input"


def test_inputs_of_all_layers_are_alive_at_the_peak_and_nothing_is_afterwards():
    with metering() as meter:
        network, x = chain(), torch.empty(ROWS, WIDTH)
        before = meter.live
        step(network, meter, x)
        weights = bytes_of(network.parameters())
        assert weights == 4 * 4 * WIDTH * WIDTH
        assert meter.lasting == 2 * weights and bytes_of(p.grad for p in network.parameters()) == weights
        assert meter.live == before + weights, "gradients are all that stays"
        # x, three maps between the layers, the result and the gradients around one layer
        assert 5 * MAP <= meter.activations <= 8 * MAP
        network.zero_grad()
        assert meter.lasting == weights


def test_checkpointing_costs_a_forward_and_saves_memory():
    found = {}
    for frugal in (False, True):
        with metering() as meter:
            network = nn.Sequential(*(chain(8) for _ in range(8)))
            if frugal:
                recompute(network)
            step(network, meter, torch.empty(ROWS, WIDTH))
            found[frugal] = meter.flop, meter.activations
    layer = 2 * ROWS * WIDTH * WIDTH
    assert found[True][0] - found[False][0] == pytest.approx(64 * layer, abs=8 * layer)
    assert found[True][1] < 0.5 * found[False][1]


def test_a_value_that_is_read_is_one_and_draws_need_no_generator():
    with metering():
        assert float(torch.empty(())) == 1.0
        assert torch.randn(3, generator=torch.Generator()).shape == (3,)
        assert torch.randint(5, (2,), generator=torch.Generator()).dtype == torch.int64


def kept_by(function):
    """Bytes that a call under autocast keeps for the way back, its result included."""
    with metering() as meter:
        norm = nn.GroupNorm(4, WIDTH)
        x = torch.empty(1, WIDTH, 16, 16, dtype=torch.bfloat16, requires_grad=True)
        meter.last([x, *norm.parameters()])
        meter.start()
        with torch.autocast("cpu", torch.bfloat16):
            out = function(norm, x)
        return out.dtype, meter.live - meter.lasting


def test_normalisations_and_resizings_are_float32_as_in_cudas_autocast():
    size = WIDTH * 16 * 16
    dtype, kept = kept_by(lambda norm, x: norm(x))
    assert dtype == torch.float32 and kept >= 2 * 4 * size, "its input in float32, and its result"
    assert kept_by(lambda norm, x: F.interpolate(x, scale_factor=2.0))[0] == torch.float32
    assert kept_by(lambda norm, x: F.silu(x)) == (torch.bfloat16, 2 * size)


def test_the_mode_holds_for_what_is_computed_again_on_the_way_back():
    seen = []

    class Norm(nn.GroupNorm):
        def forward(self, x):
            out = super().forward(x.bfloat16())
            seen.append(out.dtype)
            return out.sin()  # keeps something too: computing again stops at the last thing that is kept

    with metering():
        norm = Norm(4, WIDTH)
        recompute([norm])
        with torch.autocast("cpu", torch.bfloat16):
            out = norm(torch.empty(1, WIDTH, 4, 4, requires_grad=True))
        out.sum().backward()
    assert seen == [torch.float32, torch.float32]


def test_attention_keeps_no_map_of_scores():
    with metering() as meter:
        q = torch.empty(1, 2, 4096, 64, requires_grad=True)
        meter.start()
        F.scaled_dot_product_attention(q, q, q).sum().backward()
        assert meter.peak < 4096 * 4096
        assert meter.flop == 7 * 2 * 2 * 4096 * 4096 * 64, "two products forward, five on the way back"


def test_copies_are_beside_the_mode_s_other_tensors():
    with metering() as meter:
        network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)).requires_grad_(False)
        network[0].weight.requires_grad_(True)
        tied = nn.ModuleList([network, network])
        before = meter.live
        found = copy.deepcopy(tied)
        assert meter.live - before == bytes_of((*network.parameters(), *network.buffers()))
        assert found[0] is found[1] and found[0][0].weight.requires_grad and not found[0][1].weight.requires_grad
        assert isinstance(found[0][0].weight, nn.Parameter) and found[0][1].running_mean.fake_mode is meter.fake
        found[0](torch.empty(ROWS, WIDTH))


def test_a_network_moves_to_another_dtype_and_a_mask_chooses_everything():
    with metering():
        network = chain().to(torch.bfloat16)
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
        x = torch.empty(ROWS, WIDTH, requires_grad=True)
        x[torch.ones(ROWS, dtype=torch.bool)].sum().backward()
        assert x.grad.shape == x.shape


def test_an_integer_that_is_read_is_what_the_run_needs():
    with metering() as meter:
        meter.whole = 14
        assert int(torch.full((2,), 3)[0]) == 14
