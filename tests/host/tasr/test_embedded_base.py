"""The embedded base as MODEL and VAE, and controls that read its latents."""

import pytest
import torch
from safetensors.torch import save_file

from .conftest import fill


@pytest.fixture(scope="module")
def module(comfy):
    return comfy.module("host.latent_base")


@pytest.fixture(scope="module")
def base_file(module, tmp_path_factory):
    """Random weights in the file's layout."""
    network = comfy_unet(module)
    fill(network, 3)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, path)
    return str(path)


def comfy_unet(module):
    return module.unet(module.SHAPE, kind=module.VelocityUNet, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def loaded(module, base_file):
    return module.load_latent_base(base_file)


def control_for(comfy, module, loaded, seed=5):
    """A CONTROL_NET as Train Time-Aware Adapter begins one, with outputs that are not silent."""
    base = comfy.module("host.training.tasr_base")
    control = comfy.module("models.latent_control")
    network, _ = base.trainable_controlnet(None, loaded[0])
    fill(network, seed)
    config = control.LatentControlConfig.from_state_dict(network.state_dict())
    weights = {key: value.detach().clone() for key, value in network.state_dict().items()}
    return comfy.module("host.control.controlnet").control_from_weights(weights, config, "eps")


def sampled(loaded, control=None, side=32, vae=None):
    import comfy.sample
    import comfy.samplers

    model = loaded[0]
    noise = torch.randn(1, 48, side // 4, side // 4, generator=torch.Generator().manual_seed(1))
    prompt = [[torch.zeros(1, 77, 64), {}]]
    steered = prompt
    if control is not None:
        hint = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2))
        link = control.copy().set_cond_hint(hint, 1.0, (0.0, 1.0), vae=vae or loaded[1])
        steered = [[prompt[0][0], {"control": link, "control_apply_to_uncond": True}]]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
    euler = comfy.samplers.sampler_object("euler")
    return comfy.sample.sample_custom(
        model, noise, 1.0, euler, sigmas, steered, prompt, torch.zeros_like(noise), disable_pbar=True, seed=1
    )


def test_the_model_is_sampled_on_rearranged_pixels(loaded):
    model, vae = loaded
    assert model.model.latent_format.latent_channels == 48 and model.model.latent_format.scale_factor == 2.0
    assert model.model.model_config.unet_config["num_head_channels"] == 64, "the host sets it, training reads it"
    found = sampled(loaded)
    assert found.shape == (1, 48, 8, 8) and bool(found.isfinite().all())
    picture = torch.rand(1, 24, 32, 3)
    assert torch.allclose(vae.decode(vae.encode(picture)), picture, atol=1e-3)


def test_what_is_trained_is_what_is_run(module, loaded, base_file):
    """The recipe's network and the MODEL's give one prediction: heads and all other sizes agree."""
    from safetensors.torch import load_file

    network = comfy_unet(module)
    network.load_state_dict({key: value.float() for key, value in load_file(base_file).items()})
    x, t = torch.randn(1, 48, 8, 8), torch.tensor([500])
    context = torch.zeros(1, 1, 64)
    with torch.no_grad():
        expected = network(x, t, context=context)
        got = loaded[0].model.diffusion_model(x.to(loaded[0].model.get_dtype()), t, context=context).float()
    assert torch.allclose(expected, got, atol=2e-2 * float(expected.abs().max()))


def test_its_layers_give_v_and_it_answers_noise(module):
    network = comfy_unet(module)
    fill(network, 3)
    with torch.no_grad():
        network.out[2].weight.zero_()
    x, t = torch.randn(2, 48, 8, 8), torch.tensor([20, 900])
    abar = network.alphas_cumprod[t].view(-1, 1, 1, 1)
    with torch.no_grad():
        assert torch.allclose(network(x, t, context=torch.zeros(2, 1, 64)), (1 - abar).sqrt() * x, atol=1e-6)
        network.out[2].bias.fill_(0.5)
        found = network(x, t, context=torch.zeros(2, 1, 64))
    assert torch.allclose(found, (1 - abar).sqrt() * x + 0.5 * abar.sqrt(), atol=1e-6)
    assert "alphas_cumprod" not in network.state_dict()
    # x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps and v = sqrt(abar) eps - sqrt(1 - abar) x_0 give eps back.
    x_0, eps = torch.randn(2, 48, 8, 8), torch.randn(2, 48, 8, 8)
    x_t, v = abar.sqrt() * x_0 + (1 - abar).sqrt() * eps, abar.sqrt() * eps - (1 - abar).sqrt() * x_0
    assert torch.allclose(abar.sqrt() * v + (1 - abar).sqrt() * x_t, eps, atol=1e-5)


def test_a_control_of_its_channels_steers_it(comfy, module, loaded):
    control = control_for(comfy, module, loaded)
    assert control.config.latent_channels == 48 and control.config.base == "the embedded base"
    free, steered = sampled(loaded), sampled(loaded, control)
    assert bool(steered.isfinite().all()) and not torch.allclose(free, steered)


def test_a_vae_and_a_model_of_other_channels_are_sentences(comfy, module, loaded, vae, patcher):
    control = control_for(comfy, module, loaded)
    with pytest.raises(ValueError, match=r"VAE of 4 latent channels.*expects the 48 of the embedded base"):
        sampled(loaded, control, vae=vae)
    check = comfy.module("host.training.tasr_base").check_model
    check(*loaded)
    with pytest.raises(ValueError, match="VAE has 4 latent channels: expected the 48"):
        check(loaded[0], vae)
    with pytest.raises(ValueError, match="VAE has 48 latent channels: expected the 4"):
        check(patcher(), loaded[1])


def test_a_file_of_another_kind_is_a_sentence(comfy, module, tmp_path):
    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(comfy.module("models.state_dict").UnsupportedModelError, match="missing"):
        module.load_latent_base(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(("channels", "width"), [(320, 128), (64, 32), (160, 64), (640, 256)])
def test_lite_adapters_are_as_wide_as_their_base_asks(channels, width):
    from adaptivesr.models.time_aware_adapter_config import lite_width

    assert lite_width(channels) == width


@pytest.mark.slow
def test_tasr_trains_on_it(comfy, module, loaded, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    train = comfy.module("host.training.tasr").train_time_aware
    config = comfy.module("training.tasr.config")
    prompt = [[torch.zeros(1, 1, 64), {}]], None
    pictures = torch.rand(2, 80, 96, 3, generator=torch.Generator().manual_seed(0))
    options = config.TasrOptions(2, "embedded", crop=64, degradation="mild", precision="float32", reward=comfy.module("training.tasr.rewards").ENERGY)  # fmt: skip
    first = train(*loaded, ("", pictures), prompt, (None, None), config.TasrConfig(stage=1, batch=1), options)
    second = train(
        *loaded, ("", pictures), prompt, (first.control, None), config.TasrConfig(batch=1, adapter_every=2), options
    )
    assert first.control.config.latent_channels == 48 and second.adapters.network.config.width == 32
    assert set(second.report["losses"]) >= {"denoise", "reward_loss", "l1"}


def test_what_ships_follows_its_picture_and_less_so_the_earlier_control_ends(comfy):
    import importlib

    from adaptivesr.tools.bench import tasr as bench

    runs = importlib.import_module("adaptivesr.tools.bench.parts.tasr_runs")
    options = bench.parser().parse_args(["--photos", "1", "--side", "64", "--steps", "10"])
    (low, truth), = bench.crops(options)  # fmt: skip
    large = torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)
    controls = runs.controls_of(options.base, options.control)
    with torch.no_grad():
        found = [controls.sample("trained", large, 0, 10, active) for active in (0, 5, 10)]
    errors = [float((picture - truth).square().mean()) for picture in found]
    assert errors[0] > 2 * errors[1] > 2 * errors[2], errors
    gates = controls.gates("trained")
    assert gates["calls"] == 10 and len(gates["sites"]) == 7


def test_the_loaders_give_what_ships(comfy):
    base = comfy.node("AdaptiveSRLoadEmbeddedBase").execute("embedded: small base").args
    assert base[0].model.latent_format.latent_channels == base[2].latent_channels == 48
    assert base[1][0][0].shape == (1, 77, 64) and not base[1][0][0].any()
    names = comfy.node("AdaptiveSRLoadTimeAwareControlNet").execute(
        "embedded: small base", "(from the ControlNet file)"
    )
    control, adapters, info = names.args
    assert control.prediction == "eps" and adapters.network.config.width == 32
    assert "the embedded base" in info and "7 sites" in info
