"""DiffBIR-type ControlNets as CONTROL_NET of the host, and the influence that follows the timestep."""

import pytest
import torch

SIDE = 16
TRAINED = {"adapters": True}


@pytest.fixture(scope="session")
def trained(parts):
    return parts.adapters()


def close(actual, expected, tolerance=1e-5):
    """Batches of other sizes run other kernels."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual / scale, expected / scale, atol=tolerance, rtol=0)


def differs(a, b):
    return float((a - b).abs().max()) > 1e-3 * float(b.abs().max())


def test_the_control_changes_the_picture_and_follows_its_hint(parts, patcher, prompts, apply, sample):
    plain = sample(patcher(), (prompts(1), prompts(2)))
    one = sample(patcher(), apply(parts.control))
    other = sample(patcher(), apply(parts.control, torch.rand(1, 128, 128, 3)))
    assert differs(one, plain) and differs(other, one)


@pytest.mark.parametrize("preset", ["constant", "off_late"])
@pytest.mark.parametrize("gated", [False, True])
def test_strength_0_is_no_control(parts, patcher, prompts, apply, sample, trained, preset, gated):
    plain = sample(patcher(), (prompts(1), prompts(2)))
    made = parts.time_aware(parts.control, preset, adapters=trained if gated else None)
    # The host leaves out a control of strength 0; this one is not left out and adds nothing.
    conditioning = apply(made, strength=1.0)
    for part in conditioning:
        part[0][1]["control"].inner.strength = 0.0
    assert torch.equal(sample(patcher(), conditioning), plain)
    assert torch.equal(sample(patcher(), apply(made, strength=0.0)), plain)


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_alpha_of_1_is_the_plain_control(parts, patcher, apply, sample, strength):
    plain = sample(patcher(), apply(parts.control, strength=strength))
    neutral = parts.time_aware(parts.control, adapters=parts.adapters(zero=True))
    assert torch.equal(sample(patcher(), apply(neutral, strength=strength)), plain)


def test_a_constant_schedule_is_the_plain_control(parts, patcher, apply, sample):
    plain = sample(patcher(), apply(parts.control))
    assert torch.equal(sample(patcher(), apply(parts.time_aware(parts.control))), plain)


def test_gates_change_the_picture_and_alpha_max_bounds_them(parts, patcher, apply, sample, trained):
    plain = sample(patcher(), apply(parts.control))
    public = parts.time_aware(parts.control, adapters=trained)
    paper = parts.time_aware(parts.control, adapters=trained, alpha_max=1.0)
    assert differs(sample(patcher(), apply(public)), plain)
    assert differs(sample(patcher(), apply(paper)), sample(patcher(), apply(public)))
    for made, top in ((public, 2.0), (paper, 1.0)):
        gates = [gate for values in made.record.summary()["sites"].values() for gate in values]
        assert min(gates) > 0.0 and max(gates) < top


@pytest.mark.parametrize("gated", [False, True])
def test_the_second_run_equals_the_first_and_a_copy_equals_both(parts, patcher, apply, sample, trained, gated):
    made = parts.time_aware(parts.control, "soft", adapters=trained if gated else None)
    conditioning = apply(made)
    first = sample(patcher(), conditioning)
    summary = made.record.summary()
    assert torch.equal(sample(patcher(), conditioning), first)
    assert made.record.summary() == summary  # one run's calls, not two
    assert torch.equal(sample(patcher(), apply(made.copy())), first)


@pytest.mark.parametrize("gated", [False, True])
def test_nothing_is_left_on_the_model(parts, patcher, prompts, apply, sample, trained, gated):
    model = patcher()
    before = {key: list(value) for key, value in model.model_options["transformer_options"].items()}
    plain = sample(model, (prompts(1), prompts(2)))
    sample(model, apply(parts.time_aware(parts.control, adapters=trained if gated else None)))
    assert {key: list(value) for key, value in model.model_options["transformer_options"].items()} == before
    assert torch.equal(sample(model, (prompts(1), prompts(2))), plain)


def test_patches_of_others_see_the_fused_skip_and_stay_last(parts, patcher, apply, sample, trained):
    seen = []
    model = patcher().clone()
    model.set_model_output_block_patch(lambda h, skip, options: (seen.append(skip.clone()), (h, skip))[1])
    made = parts.time_aware(parts.control, adapters=trained)
    sample(model, apply(made), steps=1)
    gated, _ = list(seen), seen.clear()
    sample(model, apply(parts.control), steps=1)
    assert len(gated) == len(seen) == 4
    assert differs(gated[0], seen[0])


@pytest.mark.parametrize("gated", [False, True])
def test_behind_another_controlnet_both_speak(parts, patcher, apply, sample, ordinary, trained, gated):
    """With gates of 1 a chain is the chain of plain controls; the order of the sums differs."""
    adapters = parts.adapters(zero=True) if gated else None
    first = apply(ordinary, torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(4)), 0.5, encoder=None)
    expected = sample(patcher(), apply(parts.control, positive=first[0], negative=first[1]))
    made = apply(parts.time_aware(parts.control, adapters=adapters), positive=first[0], negative=first[1])
    close(sample(patcher(), made), expected, 1e-4)
    assert differs(expected, sample(patcher(), apply(parts.control)))
    before = apply(parts.time_aware(parts.control, adapters=adapters))
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(4))
    behind = apply(ordinary, hint, 0.5, encoder=None, positive=before[0], negative=before[1])
    close(sample(patcher(), behind), expected, 1e-4)


@pytest.mark.parametrize("gated", [False, True])
def test_percents_silence_the_same_steps_as_the_hosts(parts, patcher, apply, sample, gated):
    expected = sample(patcher(), apply(parts.control, start=0.2, end=0.7), steps=6)
    made = parts.time_aware(parts.control, adapters=parts.adapters(zero=True) if gated else None)
    assert torch.equal(sample(patcher(), apply(made, start=0.2, end=0.7), steps=6), expected)
    assert 0 < made.record.summary()["calls"] < 6 and made.record.summary()["skipped"] == 0


class Counted(torch.nn.Module):
    """A ControlNet's network that counts its calls."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls, self.dtype = network, 0, network.dtype

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.network(*args, **kwargs)


@pytest.fixture
def counted(parts):
    made = parts.control.copy()
    made.control_model = Counted(parts.control.control_model)
    return made


@pytest.mark.parametrize(("preset", "skipped"), [("off_late", 4), ("drop10", 4), ("soft", 0), ("constant", 0)])
def test_silent_calls_are_not_made(parts, patcher, apply, sample, counted, preset, skipped):
    """TASR's 20 timesteps 999 ... 0: 158, 105, 53 and 0 lie below 200."""
    made = parts.time_aware(counted, preset)
    sample(patcher(), apply(made), steps=20)
    summary = made.record.summary()
    assert (summary["calls"], summary["skipped"]) == (20 - skipped, skipped)
    assert counted.control_model.calls == 20 - skipped
    assert summary["saved"] == skipped / 20 and len(summary["silent"]) == skipped


def test_the_hard_cut_is_the_hosts_end_percent(parts, patcher, apply, sample):
    """drop10 ends below t = 204 and end_percent 0.796 at 203.8; no timestep of the run lies between."""
    expected = sample(patcher(), apply(parts.control, end=0.796), steps=20)
    assert torch.equal(sample(patcher(), apply(parts.time_aware(parts.control, "drop10")), steps=20), expected)


def test_gates_and_schedule_together_skip_and_scale(parts, patcher, apply, sample, counted, trained):
    made = parts.time_aware(counted, "off_late", adapters=trained)
    both = sample(patcher(), apply(made), steps=20)
    assert (made.record.summary()["skipped"], counted.control_model.calls) == (4, 16)
    assert differs(both, sample(patcher(), apply(parts.time_aware(parts.control, adapters=trained)), steps=20))


def test_per_site_keeps_the_middle_longest(parts, patcher, apply, sample):
    made = parts.time_aware(parts.control, "off_late", per_site=True)
    sample(patcher(), apply(made), steps=20)
    summary = made.record.summary()
    sites, times = summary["sites"], summary["timesteps"]
    assert set(sites) == {"full size", "1/2", "middle"}
    at = times.index(158)
    assert sites["full size"][at] == 0.0 and 0.0 < sites["1/2"][at] < sites["middle"][at] < 1.0
    assert summary["skipped"] == 1  # t = 0 alone


def levels(patcher, timesteps):
    sampling = patcher.get_model_object("model_sampling")
    return sampling.sigmas[torch.tensor(timesteps)]


@pytest.fixture
def predict(comfy, patcher):
    """x0 of rows at noise levels of their own, by the host's guidance, with the control prepared as in a run."""
    import comfy.sampler_helpers
    import comfy.samplers

    def run(conditioning, x, sigmas, model=None):
        found = model or patcher()
        guider = comfy.samplers.CFGGuider(found)
        guider.set_conds(*conditioning)
        guider.set_cfg(3.0)
        got = []

        class Once(comfy.samplers.Sampler):
            def sample(self, model_wrap, *args, **kwargs):
                got.append(model_wrap(x, sigmas, **args[1]))
                return x

        with torch.inference_mode():
            guider.sample(
                torch.zeros_like(x), torch.zeros_like(x), Once(), torch.tensor([10.0, 0.0]), disable_pbar=True
            )
        return got[0]

    return run


@pytest.mark.parametrize("preset", ["constant", "off_late", "soft"])
@pytest.mark.parametrize("gated", [False, True])
def test_rows_at_different_timesteps_are_each_as_if_alone(parts, patcher, apply, predict, trained, preset, gated):
    made = parts.time_aware(parts.control, preset, adapters=trained if gated else None)
    sigmas = levels(patcher(), [999, 310, 260, 120, 5])
    x = torch.randn(5, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * sigmas.view(-1, 1, 1, 1)
    conditioning = apply(made, start=0.0, end=0.95)  # the last row is out of range
    together = predict(conditioning, x, sigmas)
    for row in range(5):
        close(together[row], predict(conditioning, x[row : row + 1], sigmas[row : row + 1])[0])
    plain = predict(apply(parts.control, end=0.95), x[4:], sigmas[4:])
    close(together[4:], plain)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_batches_of_images_take_their_own_hints(parts, patcher, apply, sample, trained, cfg):
    images = torch.rand(2, 128, 128, 3, generator=torch.Generator().manual_seed(8))
    made = parts.time_aware(parts.control, "soft", adapters=trained)
    both = sample(patcher(), apply(made, images), batch=2, cfg=cfg)
    one = sample(patcher(), apply(made, images[:1]), batch=2, cfg=cfg)
    close(both[:1], one[:1])
    assert differs(both[1:], one[1:])


def test_transparency_and_small_hints_are_accepted(parts, patcher, apply, sample):
    image = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(8))
    expected = sample(patcher(), apply(parts.control, image))
    assert torch.equal(sample(patcher(), apply(parts.control, torch.cat([image, image[..., :1]], -1))), expected)
    assert torch.isfinite(sample(patcher(), apply(parts.control, image[:, ::4, ::4]))).all()


@pytest.mark.parametrize("design", ["full", "lite", "paper"])
def test_every_design_runs(parts, patcher, apply, sample, design):
    made = parts.time_aware(parts.control, adapters=parts.adapters(design=design))
    assert torch.isfinite(sample(patcher(), apply(made), steps=1)).all()
    assert set(made.record.summary()["sites"]) == {"middle", *(f"decoder {i}" for i in range(4))}


def test_the_host_loads_network_and_adapters_with_the_model(parts, trained):
    made = parts.time_aware(parts.control, adapters=trained)
    models = made.get_models()
    assert trained.patcher in models and parts.control.control_model_wrapped in models and len(models) == 2


def test_two_gpus_are_refused(parts):
    with pytest.raises(ValueError, match="one GPU"):
        parts.time_aware(parts.control).deepclone_multigpu(torch.device("cpu"))
