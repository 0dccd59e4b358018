"""The schedule without trained parts works with every ControlNet of the host."""

import pytest
import torch


def differs(a, b):
    return float((a - b).abs().max()) > 1e-3 * float(b.abs().max())


@pytest.fixture(scope="session")
def hint():
    return torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(4))


def test_an_ordinary_controlnet_is_scheduled_and_skipped(parts, ordinary, patcher, prompts, apply, sample, hint):
    made = parts.time_aware(ordinary, "off_late")
    late = sample(patcher(), apply(made, hint, encoder=None), steps=20)
    summary = made.record.summary()
    assert (summary["calls"], summary["skipped"]) == (16, 4)
    assert differs(late, sample(patcher(), apply(ordinary, hint, encoder=None), steps=20))
    assert differs(late, sample(patcher(), (prompts(1), prompts(2)), steps=20))
    constant = parts.time_aware(ordinary)
    expected = sample(patcher(), apply(ordinary, hint, encoder=None), steps=20)
    assert torch.equal(sample(patcher(), apply(constant, hint, encoder=None), steps=20), expected)


class SmallT2I(torch.nn.Module):
    """In the place of a T2I-Adapter: one set of features for all rows."""

    unshuffle_amount = 8

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3 * 64, 64, 1)

    def forward(self, hint):
        return {"input": [self.layer(torch.nn.functional.pixel_unshuffle(hint, 8))]}


@pytest.fixture
def t2i(comfy):
    from comfy.controlnet import T2IAdapter

    torch.manual_seed(3)
    return T2IAdapter(SmallT2I().requires_grad_(False), 3, 8, "nearest-exact", torch.device("cpu"))


def test_a_t2i_adapter_is_scheduled(parts, t2i, patcher, apply, sample, hint):
    expected = sample(patcher(), apply(t2i, hint, encoder=None), steps=20)
    made = parts.time_aware(t2i)
    assert torch.equal(sample(patcher(), apply(made, hint, encoder=None), steps=20), expected)
    late = parts.time_aware(t2i, "off_late")
    assert not torch.equal(sample(patcher(), apply(late, hint, encoder=None), steps=20), expected)
    assert late.record.summary()["skipped"] == 4


def test_one_set_of_features_is_repeated_where_rows_differ(comfy):
    sums = comfy.module("host.control.sums")
    residual = torch.ones(1, 2, 3, 3)
    scaled = sums.scale_rows(residual, torch.tensor([1.0, 0.0, 0.5]))
    assert scaled[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.5]
    assert sums.scale_rows(residual, torch.zeros(3)) is None
    assert sums.scale_rows(residual, torch.ones(3)) is residual
    with pytest.raises(ValueError, match="2 rows for a call of 3"):
        sums.scale_rows(torch.ones(2, 1), torch.tensor([1.0, 0.0, 0.5]))


def test_tokens_of_a_transformer_have_no_levels(comfy):
    """A DiT's residuals (B, tokens, C) take the factor of the latent's own size, whatever per_site says."""
    adapter = comfy.module("host.control.adapter")
    schedule = comfy.module("sampling.control_schedule").ControlSchedule(per_site=True)
    rows = adapter._Rows(torch.tensor([300.0, 100.0]), torch.tensor([True, True]), schedule, 64)
    scaled = rows.scaled({"output": [torch.ones(2, 5, 3), None]}, None)["output"]
    assert scaled[0][:, 0, 0].tolist() == [0.5, 0.0] and scaled[1] is None


@pytest.mark.parametrize("kind", ["flow", "eps", "edm"])
def test_timesteps_of_every_kind_of_model(comfy, kind):
    import comfy.model_sampling as sampling

    adapter = comfy.module("host.control.adapter")
    if kind == "flow":
        sigmas = torch.tensor([1.0, 0.5, 0.0])
        for made in (sampling.ModelSamplingDiscreteFlow(), sampling.ModelSamplingFlux()):
            assert adapter.timesteps_of(made, sigmas).tolist() == [1000.0, 500.0, 0.0]
        return
    table = sampling.ModelSamplingDiscrete()
    made = table if kind == "eps" else sampling.ModelSamplingContinuousEDM()
    times = adapter.timesteps_of(made, table.sigmas[torch.tensor([0, 204, 999])])
    assert times.tolist() == [0.0, 204.0, 999.0]


def test_sdxl_is_scheduled_too(parts, patcher, prompts, sample):
    """A stand-in for a control of another network: the schedule only needs residuals."""
    import comfy.controlnet

    class Constant(comfy.controlnet.ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            return {"input": [], "middle": [torch.ones(len(x_noisy), 64, 8, 8)], "output": []}

        def copy(self):
            made = Constant()
            self.copy_to(made)
            return made

    made = parts.time_aware(Constant(), "off_late")
    given = [[[torch.zeros(1, 7, 32), {"pooled_output": torch.zeros(1, 1280), "control": made}]] for _ in range(2)]
    assert torch.isfinite(sample(patcher("sdxl"), given, steps=5)).all()
    assert (made.record.summary()["calls"], made.record.summary()["skipped"]) == (4, 1)
