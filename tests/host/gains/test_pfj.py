"""PFJ Inject on the embedded teacher: off means off, gains of a region reach that region, and wrong wirings are refused."""

import pytest
import torch

JUMPING = {"tau": 0.02, "back_end": "regressor"}


@pytest.fixture
def chain(estimate, for_embedded):
    """GAIN_MODELS and a GAIN of them."""

    def make(**changes):
        models = for_embedded(**changes)
        return models, estimate(**JUMPING, gain_models=models)

    return make


def test_off_is_the_same_objects(embedded, inject, chain):
    models, gain = chain()
    without_part = chain(name="without_pfj.safetensors", pfj=False)[0]
    for result in (inject(embedded, gain, models, 0.0), inject(embedded, gain), inject(embedded, gain, without_part)):
        assert result.model is embedded.model
        assert result.positive is embedded.positive and result.negative is embedded.negative


def test_an_untrained_network_changes_nothing(run, embedded, inject, chain):
    models, gain = chain(fresh=True)
    plain, _ = run(embedded, gain)
    injected, report = run(inject(embedded, gain, models), gain)
    assert torch.equal(injected, plain) and report["calls"] > 0


def test_injection_changes_the_picture_and_is_repeatable(run, embedded, inject, chain):
    models, gain = chain()
    plain, _ = run(embedded, gain)
    half, full = (inject(embedded, gain, models, strength) for strength in (0.5, 1.0))
    first, before = run(full, gain)
    assert not torch.allclose(first, plain, atol=1e-3)
    second, after = run(full, gain)
    assert torch.equal(first, second) and before["classes"] == after["classes"]
    assert not torch.allclose(run(half, gain)[0], first, atol=1e-3)


@pytest.mark.parametrize("merge", ["final", "consensus", "aggregate"])
def test_rows_do_not_depend_on_their_batch(run, embedded, inject, chain, merge):
    models, gain = chain()
    base = inject(embedded, gain, models)
    many, one = (run(base, gain, region_batch=rows, merge_mode=merge) for rows in (8, 1))
    assert many[1]["classes"] == one[1]["classes"]
    torch.testing.assert_close(many[0], one[0], atol=1e-4, rtol=1e-5)


@pytest.fixture
def conditions(pack, embedded, chain):
    """What the network is given for rows after these regions have gained that much: (rows, gains by region) -> c_concat (N, 51, h, w)."""
    import comfy.samplers

    models, gain = chain(scale=0.2)
    regions, pfj = pack("host.regions.sampler"), pack("host.gains.feature_injection")
    region_conditions, rows_of = pack("host.regions.conditions"), pack("sampling.adaptive.types").rows_of

    def get(choose, gained, strength=1.0):
        model, positive, _, _ = pfj.inject_pfj(
            embedded.model, embedded.positive, embedded.negative, gain, models, strength
        )
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, embedded.negative)
        noise = torch.zeros_like(embedded.latent["samples"])
        guider.inner_model, guider.conds = (
            model.model,
            {k: [dict(e) for e in v] for k, v in guider.original_conds.items()},
        )
        guider.conds = comfy.samplers.process_conds(model.model, noise, guider.conds, noise.device, noise, None, 0)
        started = gain.start(guider, torch.tensor([3.0, 1.0, 0.0]), embedded.latent["samples"])
        started.observe.latest.update({(0, region): values for region, values in gained.items()})
        injection = pfj.InjectionRun.start(guider, started, noise.device)
        cropper = region_conditions.CanvasConditions(guider.conds, noise.shape, noise.device, injection)
        tiles = regions.regions_of(model.model, noise.shape[2:], regions.RegionOptions(64, 0))
        rows = [rows_of(tiles, 1)[i] for i in choose]
        with torch.inference_mode():
            cut = cropper.crop(rows, [1.0] * len(rows))
        assert pfj.PFJ not in cut["positive"][0]["model_conds"] and pfj.PFJ not in cut["negative"][0]["model_conds"]
        return cut["positive"][0]["model_conds"]["c_concat"].cond, cut["negative"][0]["model_conds"]["c_concat"].cond

    return get


def test_gains_of_a_region_reach_its_rows_only(conditions):
    gains = {"psnr": 0.4, "nlpd": -0.3, "sharpness": 0.9}
    nothing, untouched = conditions([0, 1, 2, 3], {})
    some, _ = conditions([0, 1, 2, 3], {2: gains})
    changed = [(a != b).any().item() for a, b in zip(nothing, some)]
    assert changed == [False, False, True, False]
    # the picture alone is injected into: y, which the chain starts from, stays
    assert torch.equal(nothing[:, :48], untouched[:, :48]) and not torch.equal(nothing[:, 48:], untouched[:, 48:])
    # by region, not by place in the batch
    other, _ = conditions([2, 0], {2: gains})
    torch.testing.assert_close(other, some[[2, 0]], atol=1e-5, rtol=1e-5)  # convolutions round by batch size
    assert torch.equal(conditions([2], {2: {**gains, "unheard": 1.0}})[0], conditions([2], {2: gains})[0])


def test_a_batch_of_images_is_single_images(run, embedded, inject, chain, comfy):
    models, gain = chain()
    pair = torch.cat([embedded.latent["samples"], embedded.latent["samples"].flip(3)])
    both, _ = run(inject(embedded, gain, models), gain, region_batch=5, latent={"samples": pair, "batch_index": [0, 1]})
    single, _ = run(inject(embedded, gain, models), gain, latent={"samples": pair[:1], "batch_index": [0]})
    torch.testing.assert_close(both[:1], single, atol=1e-4, rtol=1e-5)


def test_other_samplers_stop_at_the_conditioning(comfy, embedded, inject, chain):
    models, gain = chain()
    base = inject(embedded, gain, models)
    sampler = comfy.nodes.NODE_CLASS_MAPPINGS["KSampler"]()
    for model in (base.model, embedded.model):  # also without our MODEL
        with torch.inference_mode(), pytest.raises(ValueError, match=r"comes from PFJ Inject.*Tiled Region Sampler"):
            sampler.sample(model, 0, 2, 1.0, "euler", "simple", base.positive, base.negative, embedded.latent)


def test_wirings_that_cannot_work_are_refused(run, embedded, inject, chain, estimate, wired):
    models, gain = chain()
    base = inject(embedded, gain, models)
    with pytest.raises(ValueError, match=r"sampler has another GAIN than PFJ Inject: .*to both"):
        run(base, estimate(**JUMPING, gain_models=models))
    with pytest.raises(ValueError, match="sampler has no GAIN: expected that of PFJ Inject"):
        run(base)
    with pytest.raises(ValueError, match="conditioning comes from PFJ Inject and the MODEL does not"):
        run(wired(embedded.model, base.positive, base.negative, embedded.latent), gain)
    with pytest.raises(ValueError, match="MODEL comes from PFJ Inject and no conditioning does"):
        run(wired(base.model, embedded.positive, embedded.negative, embedded.latent), gain)
    other = inject(embedded, gain, models, 0.5)
    with pytest.raises(ValueError, match="several PFJ Inject nodes"):
        run(wired(base.model, base.positive, other.negative, embedded.latent), gain)


def test_a_second_node_takes_the_place_of_the_first(run, embedded, inject, chain):
    models, gain = chain()
    twice = inject(inject(embedded, gain, models, 0.3), gain, models, 1.0)
    assert torch.equal(run(twice, gain)[0], run(inject(embedded, gain, models), gain)[0])


def test_another_base_and_missing_conditions_are_refused(
    embedded, inject, chain, estimate, host, put, parts, comfy, wired
):
    models, gain = chain()
    foreign = host.load_gain_models(put(("0" * 16, "SD20"), parts(48, 3), "foreign.safetensors"))
    with pytest.raises(ValueError, match=r"trained on SD20 \(0{16}\)"):
        inject(embedded, gain, foreign)
    empty = comfy.node("AdaptiveSREmptyPrompt").execute(embedded.model).args[0]
    with pytest.raises(ValueError, match=r"no LR condition in the positive.*ResShift Conditioning"):
        inject(wired(embedded.model, empty, empty, embedded.latent), gain, models)


def test_a_condition_of_other_channels_is_refused(run, embedded, inject, host, put, parts, estimate):
    models = host.load_gain_models(put(host.base_of(embedded.model), parts(48, 48)))
    gain = estimate(**JUMPING, gain_models=models)
    with pytest.raises(ValueError, match="PFJ is for an LR condition of 48 channels and got 3 "):
        run(inject(embedded, gain, models), gain)


def test_the_node_says_what_it_does(pack, embedded, chain, estimate):
    models, gain = chain()
    given = embedded.model, embedded.positive, embedded.negative
    say = lambda *rest: pack("host.gains.feature_injection").inject_pfj(*given, *rest)[3]  # noqa: E731
    assert say(gain, models, 1.0) == "into the LR channels beside the latents; gains of psnr, nlpd, sharpness"
    proxies = estimate(back_end="proxies")
    assert say(proxies, models, 1.0).endswith(
        "gains of nothing; 0 for psnr, nlpd, sharpness, which GAIN does not measure"
    )
    assert say(gain, None, 1.0) == "no GAIN_MODELS: everything is passed on unchanged"
    assert say(gain, models, 0.0) == "strength 0: everything is passed on unchanged"


class Known:
    """Gains as a run would have them: greater from region to region."""

    def vector(self, rows, names):
        return torch.tensor([[0.4 * row.region_id] * len(names) for row in rows])


@pytest.mark.parametrize(
    ("keys", "total", "expected"),
    [
        ((), 4, (0, 4)),  # instruct-pix2pix
        (("mask", "masked_image"), 5, (1, 5)),  # inpainting
        (("concat_image", "mask_inverted"), 5, (0, 4)),
        (("concat_image",), 4, (0, 4)),
    ],
)
def test_the_picture_beside_the_latents_is_found(pack, host, put, parts, keys, total, expected):
    """A model whose own first convolution takes more than latents: o_hat replaces the picture's channels, masks stay."""
    import comfy.conds

    pfj, regions, tiles = pack("host.gains.feature_injection"), pack("sampling.adaptive.types"), pack("imaging.tiles")
    network = host.load_gain_models(put(("0" * 16, "any"), parts(4, 4))).network.pfj
    model = type("Model", (), {"concat_keys": keys})()
    o = torch.randn(1, total, 16, 32, generator=torch.Generator().manual_seed(3))
    conds = {"c_concat": comfy.conds.CONDNoiseShape(o), "y": comfy.conds.CONDRegular(torch.zeros(1, 8))}
    span = pfj._span(conds, pfj.Route.CONCAT, model, network)
    assert span == expected
    run = pfj.InjectionRun(network, ("a", "b", "c"), Known(), 1.0, pfj.Route.CONCAT, slice(*span), torch.device("cpu"))
    rows = regions.rows_of([tiles.Region(0, 0, 16, 16), tiles.Region(0, 16, 16, 16)], 1)
    cropper = pack("host.regions.conditions").CanvasConditions(
        {"positive": [{"model_conds": {**conds, pfj.PFJ: None}, "uuid": None}]}, o.shape, o.device, run
    )
    with torch.inference_mode():
        (cut,) = cropper.crop(rows, [1.0, 1.0])["positive"]
        picture = regions.crop_rows(o, rows)[:, span[0] : span[1]]
        result = pack("models.feature_injection").inject(
            picture, *network(picture, Known().vector(rows, ("a", "b", "c")))
        )
    whole = regions.crop_rows(o, rows)
    whole[:, span[0] : span[1]] = result
    assert torch.equal(cut["model_conds"]["c_concat"].cond, whole) and set(cut["model_conds"]) == {"c_concat", "y"}


def test_pictures_that_cannot_be_told_apart_are_refused(pack):
    import comfy.conds

    concat = comfy.conds.CONDNoiseShape(torch.zeros(1, 9, 8, 8))
    model = type("Model", (), {"concat_keys": ("mask", "masked_image", "concat_image")})()
    with pytest.raises(ValueError, match=r"several pictures beside its latents \(mask, masked_image, concat_image\)"):
        pack("host.gains.feature_injection")._concat_span(concat, model)
