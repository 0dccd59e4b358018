"""The figures of TAD-SR and StableSR as benches: what their numbers mean."""

import pytest
import torch
from adaptivesr.models.layers import Factory
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.models.spade import SpadeModulation, SpadeShape
from adaptivesr.tools.bench.parts.condition_strength import strength, told_one_time
from adaptivesr.tools.bench.parts.score_differences import fine_share, score_rows
from adaptivesr.training.tad_sr.base import embedded_model
from torch import nn

SMALL = PixelDenoiserConfig(channels=8, blocks=2, refine_channels=8, feature_channels=4, time_channels=8, num_steps=4)


def test_the_fine_share_tells_a_chequerboard_from_a_wave():
    side = torch.arange(32)
    board = ((side[:, None] + side) % 2).float()[None, None] - 0.5
    wave = torch.sin(2 * torch.pi * side / 16)[None, None, None].expand(1, 1, 32, 32)
    torch.testing.assert_close(fine_share(torch.cat([board, wave])), torch.tensor([1.0, 0.0]), atol=1e-5, rtol=0)


def test_scores_of_equal_latents_do_not_differ_and_others_do():
    network = PixelDenoiser(SMALL)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    model, lr = embedded_model(network), torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    chain = model.latents.start(lr, model.scale)
    rows = score_rows(model, lr, {"same": chain, "other": chain + 0.1}, chain, seeds=(1, 2))
    assert [row.index for row in rows] == list(range(4))
    assert all(row.size["same"] == 0 < row.size["other"] for row in rows)
    assert all(0 <= row.fine["other"] <= 1 for row in rows)


def test_the_cosine_is_one_where_a_layer_gives_back_what_it_gets_and_falls_with_its_scale():
    layer = SpadeModulation(SpadeShape(32, 8, 8), Factory(nn))
    h = torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    h = nn.functional.group_norm(h, layer.param_free_norm.num_groups)
    with torch.no_grad():
        for made in (layer.mlp_gamma, layer.mlp_beta):
            made.weight.zero_()
            made.bias.zero_()
    features = torch.randn(2, 8, 4, 4)

    def call(t):
        layer(h, features)

    assert strength({"one": layer}, call, [0, 5]) == pytest.approx([1.0, 1.0], abs=1e-5)
    with torch.no_grad():
        layer.mlp_gamma.bias.copy_(torch.linspace(-2, 2, 32))
    assert strength({"one": layer}, call, [0])[0] < 0.9
    with pytest.raises(ValueError, match="0 of 1 SFT layers"):
        strength({"one": layer}, lambda t: None, [0])
    assert not layer._forward_hooks


def test_an_encoder_is_told_one_time_inside_only():
    seen = []
    encoder = nn.Module()
    encoder.forward = lambda latent, times: seen.append(times.tolist())
    with told_one_time(encoder, 500):
        encoder(torch.zeros(2, 4), torch.tensor([3, 700]))
    encoder(torch.zeros(2, 4), torch.tensor([3, 700]))
    assert seen == [[500, 500], [3, 700]]
    assert not encoder._forward_pre_hooks
