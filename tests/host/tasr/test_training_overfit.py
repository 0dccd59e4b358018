"""TASR's training through the host's own UNet and ControlNet classes: gradients, and one batch learnt by heart."""

import pytest
import torch
from adaptivesr.tools.small_models.checkpoints import small_checkpoint

PREFIX = "first_stage_model."


@pytest.fixture(scope="module")
def pack(comfy):
    return {name: comfy.module(name) for name in (
        "host.training.tasr_base", "training.tasr.run", "training.tasr.config", "training.tasr.steps", "training.runs",
        "training.tasr.rewards",
    )}  # fmt: skip


@pytest.fixture(scope="module")
def vae(comfy):
    import comfy.sd

    weights = {key.removeprefix(PREFIX): value for key, value in small_checkpoint().items() if key.startswith(PREFIX)}
    return comfy.sd.VAE(sd=weights)


class FourPictures:
    """The same four pictures at every step: waves that the latents can hold, and blurred."""

    def __init__(self, pictures):
        generator = torch.Generator().manual_seed(2)
        cells = torch.rand(4, 3, 3, 3, generator=generator)
        self.target = torch.nn.functional.interpolate(cells, size=64, mode="bicubic").clamp(0, 1)
        self.condition = torch.nn.functional.avg_pool2d(self.target, 17, 1, 8)
        self.text = torch.randn(4, 7, 32, generator=generator)
        self._pictures = pictures

    def batch(self, generator, size):
        return self._pictures(self.target, self.condition, self.text, None)


@pytest.fixture
def make_run(pack, patcher, vae):
    def make(**settings):
        base_module, tasr = pack["host.training.tasr_base"], pack["training.tasr.run"]
        config = pack["training.tasr.config"].TasrConfig(
            **{"lr": 2e-3, "adapter_every": 2, "decode_cells": 0, "l1_weight": 0.3, "reward_weight": 1.0, **settings}
        )
        base = base_module.base_of(patcher(), vae, torch.float32)
        network, _ = base_module.trainable_controlnet(None, patcher())
        generator = torch.Generator().manual_seed(5)
        for name, parameter in network.named_parameters():  # a silent ControlNet gives the adapters nothing to gate
            if name.startswith(("zero_convs", "middle_block_out")) and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, 0, 0.05, generator=generator)
        adapters = base_module.fresh_adapters(patcher().model.diffusion_model, "lite", 0)
        state = tasr.tasr_state(config, network, adapters)
        reward = pack["training.tasr.rewards"].gradient_energy_match
        source = FourPictures(pack["training.tasr.steps"].PromptedBatch)
        return tasr.TasrRun(state, config, base, source, reward)

    return make


def losses(pack, run):
    """Every part of the loss at fixed noise and timesteps, and which parameters have gradients."""
    steps = pack["training.tasr.steps"]
    found, reached = {}, {}
    for step, t in {0: [10, 60, 120, 190], 1: [50, 250, 450, 750]}.items():
        pack["training.tasr.run"].turn(run, run.config.trains_adapters(step))
        eps = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(step))
        drawn = steps.TasrDraw(torch.tensor(t), eps, torch.ones(4, dtype=torch.bool), (0, 0))
        run.state.model.zero_grad()
        pictures = run.source.batch(None, 4)
        loss, numbers = steps.step_loss(
            run.config, step, run.base, run.controlnet, run.adapters, pictures, drawn, run.reward
        )
        loss.backward()
        found |= {f"{name} {step}": value for name, value in numbers.items()}
        reached[step] = {name for name, p in run.state.model.named_parameters() if p.grad is not None and p.grad.any()}
    return found, reached


@pytest.mark.slow
def test_one_batch_of_four_is_learnt_with_all_losses_falling(pack, make_run):
    run = make_run()
    before, _ = losses(pack, run)
    pack["training.runs"].train(run, 40)
    after, reached = losses(pack, run)
    for name in ("denoise 0", "reward_loss 0", "denoise 1", "l1 1"):
        assert after[name] < 0.9 * before[name], (name, before, after)
    names = {name for name, _ in run.state.model.named_parameters()}
    assert reached[0] == {name for name in names if name.startswith("adapters")}
    assert reached[1] == {name for name in names if name.startswith("controlnet")}
    unet = run.base._unet
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in unet.parameters())


def test_a_fresh_start_is_the_plain_controlnet(pack, make_run):
    """Neutral gates: the same noise with adapters as without, and as the host sums the residuals itself."""
    run = make_run()
    pictures = run.source.batch(None, 4)
    z_t, z_lr, t = torch.randn(4, 4, 8, 8), run.base.encode(pictures.condition), torch.tensor([1, 300, 600, 999])
    with torch.no_grad():
        gated, alphas = run.base.predict(run.controlnet, run.adapters, z_t, z_lr, t, pictures.text)
        plain, none = run.base.predict(run.controlnet, None, z_t, z_lr, t, pictures.text)
        residuals = run.controlnet(z_t, z_lr, t, pictures.text)
        control = {"output": list(residuals["output"]), "middle": list(residuals["middle"])}
        host = run.base._unet(z_t, t, context=pictures.text, control=control)
    assert len(alphas) == 5 and not none and all(torch.equal(a, torch.ones_like(a)) for a in alphas)
    assert torch.equal(gated, plain)
    torch.testing.assert_close(plain, host, atol=1e-5, rtol=0)


def test_the_frozen_base_equals_the_host(pack, make_run, patcher, vae):
    run = make_run()
    picture = run.source.batch(None, 4).target
    latents = run.base.encode(picture)
    format_ = patcher().model.latent_format
    expected = format_.process_in(vae.encode(picture.movedim(1, -1)))
    torch.testing.assert_close(latents, expected.float(), atol=1e-5, rtol=0)
    decoded = vae.decode(format_.process_out(latents)).movedim(-1, 1)
    torch.testing.assert_close(run.base.decode(latents), decoded.float(), atol=1e-5, rtol=0)
    sigmas = patcher().get_model_object("model_sampling").sigmas
    torch.testing.assert_close(run.base.alphas_cumprod[-1], 1 / (1 + sigmas[-1] ** 2))
    assert abs(float(run.base.alphas_cumprod[-1]) - 0.00466) < 1e-5  # TASR's schedule
