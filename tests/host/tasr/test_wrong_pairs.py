"""What cannot work together gets a sentence."""

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="session")
def choose(comfy):
    adapter = comfy.module("host.control.adapter")
    preset = comfy.module("sampling.control_schedule").PRESETS["off_late"]

    def run(mode, adapters=None):
        return adapter.choose_influence(mode, preset, adapters, per_site=False, alpha_max=0.0)

    return run


@pytest.mark.parametrize("mode", ["trained", "both"])
def test_trained_without_adapters(choose, mode):
    with pytest.raises(ValueError, match=f"'{mode}' needs trained gates.*Load Time-Aware ControlNet"):
        choose(mode)


def test_modes_take_what_they_name(choose, parts):
    adapters = parts.adapters()
    assert choose("training-free", adapters).adapters is None
    assert choose("trained", adapters).schedule.constant and choose("trained", adapters).alpha_max is None
    assert choose("both", adapters).adapters is adapters and not choose("both", adapters).schedule.constant


def test_without_a_vae(parts, patcher, apply, sample):
    with pytest.raises(ValueError, match="vae input of Apply ControlNet"):
        sample(patcher(), apply(parts.control, encoder=None), steps=1)
    with pytest.raises(ValueError, match="vae input of Apply ControlNet"):
        sample(patcher(), apply(parts.time_aware(parts.control), encoder=None), steps=1)


def test_a_vae_of_other_latents(parts, patcher, apply, sample, vae):
    class Wide(type(vae)):
        latent_channels = 16

    with pytest.raises(ValueError, match=r"16 latent channels.*connect that checkpoint's VAE"):
        sample(patcher(), apply(parts.control, encoder=Wide()), steps=1)


def test_adapters_of_another_base(parts, patcher, apply, sample):
    ten = parts.adapters(sites=[(64, 64)] * 9)
    with pytest.raises(ValueError, match=r"10 sites, and the sampled MODEL has 5.*another base model"):
        sample(patcher(), apply(parts.time_aware(parts.control, adapters=ten)), steps=1)
    wide = parts.adapters(sites=[(128, 64)] * 4)
    with pytest.raises(ValueError, match=r"site 1 takes 448 channels.*another base"):
        sample(patcher(), apply(parts.time_aware(parts.control, adapters=wide)), steps=1)


def test_adapters_and_a_transformer(parts, comfy):
    adapter = comfy.module("host.control.adapter")

    class Flow:
        diffusion_model = torch.nn.Identity()

    with pytest.raises(ValueError, match="gate the skips of a UNet"):
        adapter.check_adapters(parts.adapters(), Flow())


def test_adapters_and_a_t2i_adapter(comfy):
    adapter = comfy.module("host.control.adapter")
    with pytest.raises(ValueError, match="T2I-Adapters"):
        adapter._check_places({"input": [torch.ones(1)], "output": []})
    adapter._check_places({"input": [None], "output": []})


def model(comfy, parts, unet=None, prediction="eps", zero_snr=False, latents=4, **changes):
    """A sampled model as far as the check looks at it."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.model_sampling as sampling

    parametrisation = getattr(sampling, {"eps": "EPS", "v": "V_PREDICTION"}[prediction])
    return SimpleNamespace(
        model_config=SimpleNamespace(unet_config={**parts.config.arguments(), **changes}),
        latent_format=SimpleNamespace(latent_channels=latents),
        diffusion_model=unet or openaimodel.UNetModel.__new__(openaimodel.UNetModel),
        model_sampling=type("Levels", (sampling.ModelSamplingDiscrete, parametrisation), {})(zsnr=zero_snr),
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"context_dim": 768}, "text width 768.*with 32"),
        ({"context_dim": 2048}, "text width 2048"),
        ({"latents": 48}, "latent channels 48.*with 4"),
        ({"model_channels": 320}, "channels 320"),
        ({"channel_mult": [1, 2]}, "channel factors"),
        ({"num_res_blocks": [2, 2]}, "blocks"),
        ({"unet": torch.nn.Identity()}, "works on the UNet"),
        ({"prediction": "v"}, "predicts v.*belongs to a base that predicts eps"),
    ],
)
def test_another_base_model(comfy, parts, changes, sentence):
    loading = comfy.module("host.control.controlnet")
    loading.check_base(parts.config, "eps", model(comfy, parts))
    with pytest.raises(ValueError, match=sentence):
        loading.check_base(parts.config, "eps", model(comfy, parts, **changes))


def test_the_v_lineage_needs_v_and_zero_snr(comfy, parts):
    check = comfy.module("host.control.controlnet").check_base
    check(parts.config, "v", model(comfy, parts, prediction="v", zero_snr=True))
    with pytest.raises(ValueError, match=r"predicts eps.*DiffBIR v2.1"):
        check(parts.config, "v", model(comfy, parts))
    with pytest.raises(ValueError, match="zero terminal SNR"):
        check(parts.config, "v", model(comfy, parts, prediction="v"))
    for prediction in ("eps", "v"):  # nothing is known of the file, so nothing is refused
        check(parts.config, None, model(comfy, parts, prediction=prediction))


def test_a_v_model_is_refused_when_sampling(parts, patcher, apply, sample):
    with pytest.raises(ValueError, match="predicts v"):
        sample(patcher("v"), apply(parts.control), steps=1)


def test_a_second_time_aware_adapter(parts, comfy):
    adapter = comfy.module("host.control.adapter")
    with pytest.raises(ValueError, match=r"already.*'both'"):
        adapter.make_time_aware(parts.time_aware(parts.control), parts.influence())


@pytest.mark.parametrize("values", [{"t_off": 400.0, "t_on": 400.0}, {"s_lo": 1.5}])
def test_numbers_that_are_no_schedule(comfy, values):
    with pytest.raises(ValueError, match="expected"):
        comfy.module("sampling.control_schedule").ControlSchedule(**values)
