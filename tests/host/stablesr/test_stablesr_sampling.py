"""StableSR Apply against the same networks joined by plain forward hooks and sampled by a loop written here."""

import math
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.state_dict import load_weights

SCALE = 0.18215
STEPS, CFG = 3, 3.0
HEIGHT, WIDTH = 16, 24
LEFT, RIGHT = slice(0, 16), slice(16, 32)


def assert_equal(actual, expected, tolerance=2e-5):
    """To float32 rounding, of the largest value."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual / scale, expected / scale, atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def plain_parts(weights):
    """The parts of plain torch layers, which golden vectors check."""
    network = registry.build(registry.identify(weights))
    load_weights(network, weights)
    return network.eval()


@contextmanager
def hooked(unet, parts, maps):
    """SFT behind `out_layers` of every residual block, its map chosen by width as the reference does."""
    by_width = {level.shape[-1]: level for level in maps}
    modules, handles = dict(unet.named_modules()), []
    for name, layer in parts.modulations().items():

        def modulate(module, inputs, output, layer=layer):
            return layer(output, by_width[output.shape[-1]])

        handles.append(modules[name].out_layers.register_forward_hook(modulate))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture
def reference(model, plain_parts):
    """eps -> x0 -> Euler with guidance, the LR latent in the host's (unscaled) latents."""

    @torch.no_grad()
    def run(positive, negative, lr, noise, cfg=CFG, steps=STEPS):
        import comfy.samplers

        unet = model.model.diffusion_model
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
        logs = sampling.sigmas.log()

        def eps(x, sigma, context):
            t = (logs - sigma.log()).abs().argmin().float().repeat(len(x))
            maps = plain_parts.encoder(SCALE * lr, t)
            with hooked(unet, plain_parts, maps):
                return unet(x / math.sqrt(sigma**2 + 1), t, context=context.expand(len(x), -1, -1))

        x = noise * math.sqrt(sigmas[0] ** 2 + 1)
        for sigma, following in pairwise(sigmas):
            cond, uncond = (x - sigma * eps(x, sigma, prompt[0][0]) for prompt in (positive, negative))
            x0 = uncond + cfg * (cond - uncond)
            x = x0 + (x - x0) * (following / sigma)
        return x / SCALE

    return run


@pytest.fixture
def scene(prompts, randn):
    """Positive, negative, LR latent and noise of one size."""

    def make(batch=1, height=HEIGHT, width=WIDTH):
        shape = batch, 4, height, width
        return prompts(1), prompts(2), randn(*shape, seed=3) / SCALE, randn(*shape, seed=4)

    return make


@pytest.fixture
def guided(model, apply, sample):
    """StableSR Apply and the host's KSampler."""

    def run(positive, negative, lr, noise, base=None, parts=None, strength=1.0, **values):
        patched, with_lr, without = apply(base or model, positive, negative, lr, strength, parts)
        return sample(patched, with_lr, without, torch.zeros_like(noise), noise, steps=STEPS, **{"cfg": CFG, **values})

    return run


@pytest.fixture
def tiled(comfy, model, apply):
    """StableSR Apply and the region sampler on tiles of 16 cells without overlap."""

    region = comfy.module("host.regions.sampler")

    def run(positive, negative, lr, noise, merge="final", **changes):
        from comfy import samplers

        patched, *conditioning = apply(model, positive, negative, lr)
        options = region.RegionOptions(128, 0, region.MergeMode(merge), 2, "euler", **changes)
        sigmas = samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "normal", STEPS)
        with torch.inference_mode():
            return samplers.sample(
                patched, noise, *conditioning, CFG, patched.load_device, region.RegionSampler(options), sigmas,
                patched.model_options, latent_image=torch.zeros_like(noise), disable_pbar=True, seed=0,
            )  # fmt: skip

    return run


@pytest.fixture
def encoded(comfy, monkeypatch):
    """Rows of every call of the encoder."""
    rows, encoder = [], comfy.module("models.struct_encoder").StructEncoder
    forward = encoder.forward

    def counted(self, latent, timesteps):
        rows.append(len(latent))
        return forward(self, latent, timesteps)

    monkeypatch.setattr(encoder, "forward", counted)
    return rows


@pytest.mark.parametrize("cfg", [1.0, CFG])
@pytest.mark.parametrize("size", [(16, 24), (15, 9)])
def test_full_frame_is_the_reference(guided, reference, scene, cfg, size):
    given = scene(1, *size)
    assert_equal(guided(*given, cfg=cfg), reference(*given, cfg=cfg))


def test_hosts_that_do_not_offer_blocks_to_patches_give_the_same(comfy, guided, model, reference, scene, monkeypatch):
    patch = comfy.module("host.stablesr.patch")
    monkeypatch.setattr(patch, "HOST_OFFERS_BLOCKS", False)
    given = scene()
    assert_equal(guided(*given), reference(*given))
    assert not any(module._forward_hooks for module in model.model.diffusion_model.modules())


@pytest.mark.parametrize("merge", ["aggregate", "final", "consensus"])
def test_one_region_is_the_reference(tiled, reference, scene, merge):
    given = scene(1, 16, 16)
    assert_equal(tiled(*given, merge=merge), reference(*given))


def test_regions_see_their_crop_of_the_lr_latent(tiled, reference, scene):
    positive, negative, lr, noise = scene(2, 16, 32)
    result = tiled(positive, negative, lr, noise)
    for part in (LEFT, RIGHT):
        crops = lr[..., part], noise[..., part]
        assert_equal(result[..., part], reference(positive, negative, *crops))
    assert (tiled(positive, negative, lr.flip(-1), noise) - result).abs().max() > 1.0


def test_areas_see_their_crop_of_the_lr_latent(guided, reference, scene, prompts):
    _, negative, lr, noise = scene(1, 16, 32)
    halves = [[*prompts(1)[0]], [*prompts(5)[0]]]
    for entry, x in zip(halves, (0, 16)):
        entry[1] = {"area": (16, 16, 0, x), "strength": 1.0}
    result = guided(halves, negative, lr, noise, cfg=1.0)
    for part, seed in ((LEFT, 1), (RIGHT, 5)):
        assert_equal(result[..., part], reference(prompts(seed), negative, lr[..., part], noise[..., part], cfg=1.0))


def test_strength_zero_is_the_plain_model_and_encodes_nothing(model, apply, guided, sample, scene, encoded):
    positive, negative, lr, noise = scene()
    patched, *conditioning = apply(model, positive, negative, lr, 0.0)
    assert patched is model and conditioning == [positive, negative]
    plain = sample(model, positive, negative, torch.zeros_like(noise), noise, steps=STEPS, cfg=CFG)
    assert torch.equal(guided(positive, negative, lr, noise, strength=0.0), plain) and encoded == []
    weak = guided(positive, negative, lr, noise, strength=1e-6)
    assert_equal(weak, plain, 1e-3)
    assert (guided(positive, negative, lr, noise, strength=0.5) - plain).abs().max() > 1.0


def test_second_run_equals_first_and_the_base_stays_as_it_was(model, apply, sample, scene):
    positive, negative, lr, noise = scene()
    blank, unet = torch.zeros_like(noise), model.model.diffusion_model

    def state():
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules()]
        return (
            hooks,
            {name: id(value) for name, value in vars(unet).items()},
            str(model.model_options),
            str(model.wrappers),
        )

    before = sample(model, positive, negative, blank, noise), state()
    patched, with_lr, without = apply(model, positive, negative, lr)
    first = sample(patched, with_lr, without, blank, noise)
    assert torch.equal(sample(patched, with_lr, without, blank, noise), first)
    # conditioning with an LR latent does not change a MODEL without the patch
    assert torch.equal(sample(model, with_lr, without, blank, noise), before[0])
    assert state() == before[1] and positive[0][1] == {} and model.additional_models == {}


def test_applying_twice_is_applying_the_last_one(model, apply, sample, scene, randn):
    positive, negative, lr, noise = scene()
    once = apply(model, positive, negative, lr)
    other = apply(model, positive, negative, randn(*lr.shape, seed=9), 0.4)
    twice = apply(*other, lr)
    blank = torch.zeros_like(noise)
    assert torch.equal(sample(*twice, blank, noise), sample(*once, blank, noise))


def test_a_batch_is_its_images_one_by_one(guided, scene):
    positive, negative, lr, noise = scene(2)
    both = guided(positive, negative, lr, noise)
    for image in range(2):
        alone = guided(positive, negative, lr[image : image + 1], noise[image : image + 1])
        assert_equal(both[image : image + 1], alone)
    assert_equal(guided(positive, negative, lr[:1], noise)[:1], both[:1])


def test_each_latent_is_encoded_once_a_call(guided, scene, encoded):
    positive, negative, lr, noise = scene(2)
    guided(positive, negative, lr, noise)
    assert encoded == [2] * STEPS  # cond and uncond share them
    encoded.clear()
    guided(positive, negative, lr[:1], noise)
    assert encoded == [1] * STEPS  # as do images with one LR latent


def test_conditions_that_the_host_calls_apart_are_encoded_once(guided, scene, prompts, encoded):
    positive, _, lr, noise = scene()
    guided(positive, prompts(2, tokens=29), lr, noise)  # 7 and 29 tokens cannot share a call
    assert encoded == [1] * STEPS


def test_conditions_of_one_latent_are_encoded_once_without_being_compared(comfy, plain_parts, monkeypatch, randn):
    patch = comfy.module("host.stablesr.patch")
    rows, times = randn(3, 4, 16, 16, seed=8), torch.tensor([14.0, 14.0, 300.0])
    latent, both = torch.cat([rows, rows]), torch.cat([times, times])
    with torch.inference_mode():
        compared = patch.encode_rows(plain_parts, latent, both, patch.FeatureMemory(), 2)
        for name in ("distinct_rows", "torch.equal"):  # what waits for the device
            place = torch if name == "torch.equal" else patch
            monkeypatch.setattr(place, name.rsplit(".", 1)[-1], lambda *_: pytest.fail("compared"))
        memory = patch.FeatureMemory(shared=True)
        shared = patch.encode_rows(plain_parts, latent, both, memory, 2)
        again = patch.encode_rows(plain_parts, rows, times, memory, 1)
    assert shared.rows.tolist() == [0, 1, 2, 0, 1, 2] and again.maps is shared.maps
    for one, other in zip(compared.maps, shared.maps):
        torch.testing.assert_close(one[compared.rows], other[shared.rows])


def test_only_whole_frames_of_one_latent_are_shared(comfy):
    from comfy.conds import CONDNoiseShape

    patch = comfy.module("host.stablesr.patch")

    def entry(latent, **values):
        return {"model_conds": {patch.LR_LATENT: CONDNoiseShape(latent)}, **values}

    one, other = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)
    assert patch.share_latent({"positive": [entry(one)], "negative": [entry(one)]})
    assert patch.share_latent({"positive": [entry(one), entry(one)], "negative": None})
    assert not patch.share_latent({"positive": [entry(one)], "negative": [entry(other)]})
    assert not patch.share_latent({"positive": [entry(one)], "negative": [{"model_conds": {}}]})
    assert not patch.share_latent({"positive": [entry(one)], "negative": [entry(one, area=(4, 4, 0, 0))]})


def test_rows_at_their_own_noise_levels(model, apply, scene):
    import comfy.samplers

    positive, negative, lr, noise = scene(2)

    def predict(rows, sigmas):
        patched, *conditioning = apply(model, positive, negative, lr[rows])
        seen = []

        def function(network, x, sigmas_, **extra):
            seen.append(network(30 * noise[rows], torch.tensor(sigmas), **extra["extra_args"]))
            return seen[0]

        def sampler(network, x, levels, extra_args=None, **_):
            return function(network, x, levels, extra_args=extra_args)

        with torch.inference_mode():
            comfy.samplers.sample(
                patched, noise[rows], *conditioning, CFG, patched.load_device, comfy.samplers.KSAMPLER(sampler), torch.tensor([14.0, 0.0]),
                patched.model_options, latent_image=torch.zeros_like(noise[rows]), disable_pbar=True, seed=0,
            )  # fmt: skip
        return seen[0]

    both = predict([0, 1], [14.0, 1.5])
    assert_equal(both[:1], predict([0], [14.0]))
    assert_equal(both[1:], predict([1], [1.5]))


def test_a_lora_on_a_modulated_convolution_still_works(model, apply, sample, scene, guided, randn):
    positive, negative, lr, noise = scene()
    key = "diffusion_model.input_blocks.1.0.out_layers.3.weight"
    weight = model.model.state_dict()[key]
    before, change = weight.clone(), 0.1 * randn(*weight.shape, seed=6)
    after = apply(model, positive, negative, lr)
    lora_after = after[0].clone()
    lora_after.add_patches({key: ("diff", (change,))}, 1.0)
    blank = torch.zeros_like(noise)
    result = sample(lora_after, *after[1:], blank, noise, steps=STEPS, cfg=CFG)
    plain = guided(positive, negative, lr, noise)
    assert (result - plain).abs().max() > 0.01 * plain.abs().max()
    lora_before = model.clone()
    lora_before.add_patches({key: ("diff", (change,))}, 1.0)
    assert_equal(guided(positive, negative, lr, noise, base=lora_before), result)
    assert_equal(guided(positive, negative, lr, noise), plain)
    assert torch.equal(model.model.state_dict()[key], before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_run(build, guided, scene, dtype):
    given = scene()
    half = build(dtype=dtype)
    assert half.model_dtype() == dtype
    result, expected = guided(*given, base=half), guided(*given)
    assert torch.isfinite(result).all()
    # bfloat16 has 8 bits, and three steps with guidance multiply their errors
    error = (result - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < (0.2 if dtype == torch.bfloat16 else 0.05)


def test_v_prediction_runs_the_same_way(build, guided, sample, scene):
    base = build("V_PREDICTION")
    positive, negative, lr, noise = scene()
    result = guided(positive, negative, lr, noise, base=base)
    plain = sample(base, positive, negative, torch.zeros_like(noise), noise, steps=STEPS, cfg=CFG)
    assert torch.isfinite(result).all() and (result - plain).abs().max() > 1.0


def test_a_copy_for_another_device_runs_on_its_own_parts(build, apply, sample, scene, stablesr):
    base = build()
    if not hasattr(base, "deepclone_multigpu"):
        pytest.skip("this host has no multi-GPU clones")
    base.cached_patcher_init = (lambda: build(), ())
    positive, negative, lr, noise = scene()
    patched, *conditioning = apply(base, positive, negative, lr)
    blank = torch.zeros_like(noise)
    expected = sample(patched, *conditioning, blank, noise)
    copy = patched.deepclone_multigpu(torch.device("cpu"))
    own = copy.get_additional_models_with_key("adaptivesr_stablesr")[0].model
    assert own is not stablesr.patcher.model
    assert_equal(sample(copy, *conditioning, blank, noise), expected)


def test_parts_can_be_streamed_from_another_memory(stablesr):
    """With little memory the host leaves layers behind and casts their weights at use: all must be layers of its own."""
    owners = [m for m in stablesr.patcher.model.modules() if list(m.parameters(recurse=False))]
    assert owners and all(m.comfy_cast_weights for m in owners)
    assert stablesr.patcher.model_size() == sum(p.numel() * p.element_size() for p in stablesr.parts.parameters())


def test_parts_are_loaded_by_the_host_along_with_the_model(model, apply, scene, stablesr, sample, monkeypatch):
    import comfy.model_management

    loaded, load = [], comfy.model_management.load_models_gpu

    def record(models, *args, **kwargs):
        loaded.extend(models)
        return load(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", record)
    positive, negative, lr, noise = scene()
    patched, *both = apply(model, positive, negative, lr)
    sample(patched, *both, torch.zeros_like(noise), noise)
    assert any(patcher.model is stablesr.patcher.model for patcher in loaded)
