"""PFJ Inject on a small SD-2.1-shaped MODEL with StableSR: o_hat takes the place of the LR latent that the encoder reads."""

import json
from pathlib import Path

import pytest
import torch
from adaptivesr.tools.small_models.gain_models import METRICS, save_gain_models, small_gain_models

HEIGHT, WIDTH = 16, 32


@pytest.fixture(scope="session")
def pack(comfy):
    return comfy.module


@pytest.fixture
def base(model, apply, prompts, randn):
    """MODEL and both conditionings of StableSR Apply."""
    return apply(model, prompts(1), prompts(2), randn(1, 4, HEIGHT, WIDTH))


@pytest.fixture
def gain_models(comfy):
    """GAIN_MODELS for a MODEL."""
    import folder_paths

    def make(model, name="for_stablesr.safetensors", condition=4, **changes):
        folder = Path(folder_paths.models_dir) / "adaptivesr" / "gain_models"
        folder.mkdir(exist_ok=True)
        host = comfy.module("host.gains.models")
        save_gain_models(folder / name, host.base_of(model), small_gain_models(4, condition, **changes), METRICS)
        folder_paths.filename_list_cache.clear()
        return host.load_gain_models(name)

    return make


@pytest.fixture
def sampled(comfy, randn):
    """Tiled Region Sampler on (MODEL, positive, negative): (samples, report)."""

    def run(base, gain=None, cfg=1.0, region_batch=0):
        node, latent = comfy.node("AdaptiveSRTiledRegionSampler"), {"samples": 3 * randn(1, 4, HEIGHT, WIDTH, seed=7)}
        with torch.inference_mode():
            out = node.execute(
                *base, latent, 0, 6, cfg, "ddpm", "normal", 1.0, 128, 0, "final", region_batch=region_batch, gain=gain
            ).args  # fmt: skip
        return out[0]["samples"], json.loads(out[2])

    return run


@pytest.fixture
def estimate(comfy):
    def call(models):
        node = comfy.node("AdaptiveSRMMLEGainEstimator")
        values = {entry.id: entry.default for entry in node.define_schema().inputs if not entry.optional}
        return node.execute(**{**values, "back_end": "regressor", "tau": 0.02, "gain_models": models}).args[0]

    return call


def test_an_untrained_network_is_off_and_a_trained_one_changes_the_picture(pack, base, gain_models, estimate, sampled):
    inject = pack("host.gains.feature_injection").inject_pfj
    fresh = gain_models(base[0], fresh=True)
    gain = estimate(fresh)
    plain, _ = sampled(base, gain)
    assert torch.equal(sampled(inject(*base, gain, fresh, 1.0)[:3], gain)[0], plain)
    models = gain_models(base[0])
    gain = estimate(models)
    *injected, line = inject(*base, gain, models, 1.0)
    assert line.startswith("into StableSR's LR latent")
    first, report = sampled(injected, gain)
    assert not torch.allclose(first, plain, atol=1e-3) and report["gain_back_end"] == "regressor"
    assert torch.equal(sampled(injected, gain)[0], first)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_rows_do_not_depend_on_their_batch(pack, base, gain_models, estimate, sampled, cfg):
    models = gain_models(base[0])
    gain = estimate(models)
    injected = pack("host.gains.feature_injection").inject_pfj(*base, gain, models, 1.0)[:3]
    (many, before), (one, after) = (sampled(injected, gain, cfg, rows) for rows in (2, 1))
    assert before["classes"] == after["classes"]
    torch.testing.assert_close(many, one, atol=1e-4 * float(one.abs().max()), rtol=0)


def test_stablesr_is_part_of_the_base(pack, model, base, gain_models, estimate):
    host = pack("host.gains.models")
    assert host.base_of(base[0])[0] != host.base_of(model)[0] and "StableSR on" in host.base_of(base[0])[1]
    models = gain_models(model, "for_the_plain_model.safetensors")
    with pytest.raises(ValueError, match=r"trained on SD20 .*, the MODEL is StableSR on SD20"):
        pack("host.gains.feature_injection").inject_pfj(*base, estimate(models), models, 1.0)


def test_an_lr_latent_of_other_channels_is_refused(pack, base, gain_models, estimate, sampled):
    models = gain_models(base[0], "three_channels.safetensors", condition=3)
    gain = estimate(models)
    with pytest.raises(ValueError, match=r"of 3 channels and got 4 \(StableSR's LR latent\)"):
        sampled(pack("host.gains.feature_injection").inject_pfj(*base, gain, models, 1.0)[:3], gain)
