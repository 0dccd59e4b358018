"""PFJ Inject on DiffBIR-type and TASR ControlNets: o_hat takes the place of the latent hint, and of no other control's."""

from pathlib import Path

import pytest
import torch
from adaptivesr.tools.small_models.gain_models import METRICS, save_gain_models, small_gain_models

HEIGHT, WIDTH = 16, 32


@pytest.fixture
def chain(comfy, patcher):
    """GAIN_MODELS for the small MODEL and a GAIN of them."""
    import folder_paths

    def make(**changes):
        folder = Path(folder_paths.models_dir) / "adaptivesr" / "gain_models"
        folder.mkdir(exist_ok=True)
        host = comfy.module("host.gains.models")
        path = folder / "for_control.safetensors"
        save_gain_models(path, host.base_of(patcher()), small_gain_models(4, 4, **changes), METRICS)
        folder_paths.filename_list_cache.clear()
        models = host.load_gain_models(path.name)
        node = comfy.node("AdaptiveSRMMLEGainEstimator")
        values = {entry.id: entry.default for entry in node.define_schema().inputs if not entry.optional}
        reference = {"samples": torch.randn(1, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))}
        inputs = {"back_end": "regressor", "tau": 0.02, "gain_models": models, "reference": reference}
        return models, node.execute(**{**values, **inputs}).args[0]

    return make


@pytest.fixture
def sampled(comfy, sample):
    """The region sampler's latents with two tiles side by side."""
    region = comfy.module("host.regions.sampler")

    def run(model, conditioning, gain, rows=2):
        options = region.RegionOptions(128, 0, region.MergeMode.FINAL, rows, "euler", None, gain)
        return sample(model, conditioning, sampler=region.RegionSampler(options), size=(HEIGHT, WIDTH), steps=5)

    return run


@pytest.fixture
def control(parts):
    """A control by name: DiffBIR's, or with TASR's gates."""
    return lambda kind: parts.control if kind == "plain" else parts.time_aware(parts.control, adapters=parts.adapters())


@pytest.fixture(scope="session")
def image():
    return torch.rand(1, 8 * HEIGHT, 8 * WIDTH, 3, generator=torch.Generator().manual_seed(31))


@pytest.mark.parametrize("kind", ["plain", "gated"])
def test_the_hint_is_injected_into(comfy, patcher, apply, control, image, chain, sampled, kind):
    inject = comfy.module("host.gains.feature_injection").inject_pfj
    conditioning = apply(control(kind), image)
    fresh, gain = chain(fresh=True)
    plain = sampled(patcher(), conditioning, gain)
    model, *marked, line = inject(patcher(), *conditioning, gain, fresh, 1.0)
    assert line.startswith("into the ControlNet's latent hint")
    assert torch.equal(sampled(model, marked, gain), plain)
    models, gain = chain()
    model, *marked, _ = inject(patcher(), *conditioning, gain, models, 1.0)
    first = sampled(model, marked, gain)
    assert not torch.allclose(first, plain, atol=1e-3)
    assert torch.equal(sampled(model, marked, gain), first)
    torch.testing.assert_close(
        sampled(model, marked, gain, rows=1), first, atol=1e-4 * float(first.abs().max()), rtol=0
    )


def test_other_controls_keep_their_hints(comfy, patcher, apply, parts, ordinary, image, chain):
    """In a chain of two only the DiffBIR-type control's hint is replaced, for every row by that row's gains."""
    _, _gain = chain(scale=0.2)
    models, _ = chain(scale=0.2)
    positive, negative = apply(ordinary, image)
    positive, negative = apply(parts.control, image, positive=positive, negative=negative)
    pfj, controls = comfy.module("host.gains.feature_injection"), comfy.module("host.regions.controls")
    regions = comfy.module("sampling.adaptive.types")
    tiles = comfy.module("imaging.tiles")
    rows = regions.rows_of([tiles.Region(0, 0, 16, 16), tiles.Region(0, 16, 16, 16)], 1)
    device = torch.device("cpu")

    class Known:
        """Gains as a run would have them."""

        def vector(self, rows, names):
            return torch.tensor([[0.9 * row.region_id] * len(names) for row in rows])

    run = pfj.InjectionRun(models.network.pfj, models.metrics, Known(), 1.0, pfj.Route.CONTROL, slice(0, 4), device)
    chains = controls.ControlChains((HEIGHT, WIDTH), device)
    with torch.inference_mode():
        control = positive[0][1]["control"]
        plain = chains.for_call(rows, [1.0, 1.0])(control)
        injected = chains.for_call(rows, [1.0, 1.0], run.for_call(rows))(control)
        o = plain._link.cond_hint
        alpha, beta = models.network.pfj(o, Known().vector(rows, models.metrics))
        expected = comfy.module("models.feature_injection").inject(o, alpha, beta)
    assert torch.equal(injected._link.cond_hint, expected) and not torch.equal(expected, o)
    others = [control.previous_controlnet._link.cond_hint_original for control in (plain, injected)]
    assert torch.equal(*others)


def test_without_such_a_control_there_is_nothing_to_inject_into(comfy, patcher, apply, ordinary, image, chain):
    models, gain = chain()
    with pytest.raises(ValueError, match="no LR condition in the positive"):
        comfy.module("host.gains.feature_injection").inject_pfj(
            patcher(), *apply(ordinary, image, encoder=None), gain, models, 1.0
        )
