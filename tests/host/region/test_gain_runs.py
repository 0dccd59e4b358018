"""Runs with gains: repeatable, row by row alike, equal to the fixed run where the policy says so; what goes wrong is said."""

import json

import pytest
import torch

FIXED = {"intervals": "1, 1, 1, 1", "t_sat_max": 0.0}
CHANNELS = {"flow": 16}


def canvas(images=1, channels=4, seed=3):
    """Left half flat, right half noise: (LATENT)."""
    samples = torch.full((images, channels, 16, 32), 0.3)
    samples[..., 16:] = torch.randn(images, channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    return {"samples": samples}


@pytest.fixture
def estimate(comfy):
    """MMLE Gain Estimator with its defaults but for what is given."""

    def call(**inputs):
        node = comfy.node("AdaptiveSRMMLEGainEstimator")
        schema = node.define_schema()
        values = {entry.id: entry.default for entry in schema.inputs if not entry.optional}
        with torch.inference_mode():
            return node.execute(**{**values, **inputs}).args[0]

    return call


@pytest.fixture
def run(comfy, patcher, prompts):
    """Tiled Region Sampler: (samples, region map, report)."""

    def call(latent, kind="eps", model=None, **inputs):
        node = comfy.node("AdaptiveSRTiledRegionSampler")
        values = {
            "seed": 5, "steps": 12, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.6,
            "tile_size": 128, "overlap": 32, "merge_mode": "consensus", **inputs,
        }  # fmt: skip
        with torch.inference_mode():
            output = node.execute(model or patcher(kind), prompts(1), prompts(2), latent, **values).args
        return output[0]["samples"], output[1], json.loads(output[2])

    return call


@pytest.mark.parametrize("kind", ["eps", "v", "edm", "flow"])
@pytest.mark.parametrize("back_end", ["latent", "proxies"])
def test_a_run_is_adaptive_and_its_report_adds_up(run, estimate, kind, back_end):
    latent = canvas(channels=CHANNELS.get(kind, 4))
    gain = estimate(back_end=back_end, tau=0.5, t_sat_max=0.0)
    samples, heat, report = run(latent, kind, gain=gain)
    assert torch.isfinite(samples).all() and heat.shape[-1] == 3
    (steps,), (classes,), (exits,), (gains,) = (
        report[key] for key in ("steps_per_region", "classes", "exits_per_region", "gains")
    )
    assert [len(word) for word in classes] == steps and all(word.startswith("W") for word in classes)
    assert sum(steps) == report["region_calls"] < report["fixed_region_calls"] == 12 * len(steps)
    assert report["skipped"] == round(1 - sum(steps) / (12 * len(steps)), 4)
    assert set(exits) == {"complete"} and report["gain_back_end"] == back_end
    names = {"psnr", "nlpd", "fr"} if back_end == "latent" else {"fr", "change"}
    assert all(names <= set(found) for found in gains)
    assert report["gain_tau"] > 0.5 * 0.1  # a chain of 12 steps gains more a step than one of 200


@pytest.fixture
def ideal(comfy, patcher):
    """A MODEL that knows its pictures: x0 = m + v / (v + sigma^2) (x - m), with m the canvas and v great in its right half."""

    def make(latent):
        model = patcher("eps").clone()
        mean = model.model.process_latent_in(latent["samples"])
        variance = torch.full_like(mean, 1e-4)
        variance[..., 16:] = 0.25
        crop = comfy.module("sampling.adaptive.types").crop_rows

        def predict(apply_model, call):
            rows = call["c"]["transformer_options"]["adaptivesr_rows"]
            m, v = crop(mean, rows), crop(variance, rows)
            return m + v / (v + call["timestep"].view(-1, 1, 1, 1).square()) * (call["input"] - m)

        model.set_model_unet_function_wrapper(predict)
        return model

    return make


@pytest.mark.parametrize("back_end", ["latent", "rgb_linear"])
@pytest.mark.parametrize("merge", ["consensus", "final"])
@pytest.mark.parametrize("denoise", [0.35, 1.0])
def test_flat_regions_get_fewer_steps_than_texture(run, estimate, ideal, back_end, merge, denoise):
    latent = {"samples": torch.zeros(1, 4, 16, 32)}
    latent["samples"][..., 16:] = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    gain = estimate(back_end=back_end, reference=latent)
    _, heat, report = run(
        latent, model=ideal(latent), gain=gain, merge_mode=merge, steps=20, denoise=denoise, tile_size=64, overlap=0
    )
    (steps,) = report["steps_per_region"]
    flat = [count for (_, x, _, _), count in zip(report["regions"], steps) if x < 16]
    texture = [count for (_, x, _, _), count in zip(report["regions"], steps) if x >= 16]
    assert max(flat) < min(texture), report["classes"]
    # the map is as wide as the canvas: dark left, bright right
    half = heat.shape[2] // 2
    assert heat[:, :200, :half].mean() < heat[:, :200, half:].mean()


@pytest.mark.parametrize("merge", ["consensus", "final"])
@pytest.mark.parametrize("denoise", [0.35, 1.0])
def test_step_size_gives_flat_regions_fewer_steps_without_the_prior(run, estimate, ideal, merge, denoise):
    latent = canvas()
    gain = estimate(rule="step_size", prior=0.0)
    _, _, report = run(
        latent, model=ideal(latent), gain=gain, merge_mode=merge, steps=20, denoise=denoise, tile_size=64, overlap=0
    )
    sides = [], []
    for (_, x, _, _), count in zip(report["regions"], report["steps_per_region"][0]):
        sides[x >= 16].append(count)
    assert max(sides[0]) < min(sides[1])
    assert max(sides[0]) <= 3


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("merge", ["aggregate", "consensus", "final"])
def test_step_size_at_tau_0_is_the_fixed_run_and_its_report_adds_up(run, estimate, kind, merge):
    latent = canvas(channels=CHANNELS.get(kind, 4))
    fixed, _, _ = run(latent, kind, merge_mode=merge)
    every, _, report = run(latent, kind, merge_mode=merge, gain=estimate(rule="step_size", tau=0.0))
    assert torch.equal(every, fixed)
    assert report["gain_rule"] == "step_size" and report["skipped"] == 0
    _, _, fewer = run(latent, kind, merge_mode=merge, gain=estimate(rule="step_size", tau=1.0))
    (steps,), (classes,) = fewer["steps_per_region"], fewer["classes"]
    assert [len(word) for word in classes] == steps and sum(steps) == fewer["region_calls"] < 12 * len(steps)


@pytest.mark.parametrize("back_end", ["latent", "rgb_linear", "proxies"])
@pytest.mark.parametrize("tau", [0.005, 0.02])
def test_with_random_weights_the_prior_alone_tells_flat_regions_from_texture(run, estimate, back_end, tau):
    latent = canvas()
    found = {}
    for prior in (0.0, 1.0):
        gain = estimate(back_end=back_end, tau=tau, prior=prior, reference=latent)
        _, _, report = run(latent, gain=gain, steps=20, tile_size=64, overlap=0)
        sides = [], []
        for (_, x, _, _), count in zip(report["regions"], report["steps_per_region"][0]):
            sides[x >= 16].append(count)
        found[prior] = [sum(side) / len(side) for side in sides]
    assert found[1.0][0] < found[1.0][1]
    assert found[1.0][1] - found[1.0][0] > found[0.0][1] - found[0.0][0]


def test_regions_in_step_have_no_prior(run, estimate):
    together = [run(canvas(), gain=estimate(prior=prior), merge_mode="aggregate")[2] for prior in (0.0, 1.0)]
    assert together[0]["classes"] == together[1]["classes"]


@pytest.mark.parametrize("merge", ["aggregate", "consensus", "final"])
def test_a_plan_keeps_nothing_of_a_run(run, estimate, merge):
    gain = estimate(tau=0.02)
    first, _, before = run(canvas(), gain=gain, merge_mode=merge)
    second, _, after = run(canvas(), gain=gain, merge_mode=merge)
    assert torch.equal(first, second)
    assert before["classes"] == after["classes"] and before["gains"] == after["gains"]


@pytest.mark.parametrize("merge", ["aggregate", "consensus", "final"])
@pytest.mark.parametrize("back_end", ["latent", "proxies"])
def test_without_jumps_and_exits_the_run_is_the_fixed_one(run, estimate, merge, back_end):
    fixed, _, _ = run(canvas(), merge_mode=merge)
    samples, _, report = run(canvas(), gain=estimate(back_end=back_end, **FIXED), merge_mode=merge)
    assert torch.equal(samples, fixed)
    assert report["skipped"] == 0 and set(report["steps_per_region"][0]) == {12}


def test_tau_zero_makes_all_steps_where_predictions_change_and_a_great_one_jumps_at_once(run, estimate):
    noise = {"samples": torch.randn(1, 4, 16, 32, generator=torch.Generator().manual_seed(8))}
    fixed, _, _ = run(noise)
    careful, _, report = run(noise, gain=estimate(back_end="proxies", tau=0.0))
    assert report["skipped"] == 0 and torch.equal(careful, fixed)
    _, _, report = run(noise, gain=estimate(tau=1.0, t_sat_max=0.0, prior=0.0))
    # levels 0, 1, 2 at the first speed, then the ladder: 2, 3, 4 steps and what is left
    assert {tuple(image) for image in report["steps_per_region"]} == {(6,) * report["tiles"]}
    assert set(report["classes"][0]) == {"WSSSSS"}


@pytest.mark.parametrize("merge", ["consensus", "final"])
def test_a_batch_of_two_is_two_runs(run, estimate, merge):
    pair = canvas(2)
    gain = estimate(reference=pair, tau=0.02)
    both, _, report = run({**pair, "batch_index": [0, 1]}, gain=gain, merge_mode=merge, region_batch=3)
    for i in range(2):
        single = {"samples": pair["samples"][i : i + 1], "batch_index": [i]}
        alone, _, one = run(single, gain=estimate(reference=single, tau=0.02), merge_mode=merge, region_batch=1)
        torch.testing.assert_close(both[i : i + 1], alone, atol=1e-4, rtol=1e-5)
        assert one["classes"][0] == report["classes"][i]


def test_every_back_end_of_pictures_runs_and_names_its_metrics(run, estimate, vae):
    picture = torch.rand(1, 128, 256, 3, generator=torch.Generator().manual_seed(1))
    plain = estimate(back_end="rgb_linear")
    _, _, report = run(canvas(), gain=plain)
    assert report["gain_metrics"] == ["psnr", "nlpd", "sharpness"]
    for inputs in ({}, {"image": picture}):
        gain = estimate(back_end="vae", vae=vae, metrics="ssim, sharpness", **inputs)
        _, _, report = run(canvas(), gain=gain, steps=4)
        assert report["gain_metrics"] == ["ssim", "sharpness"] and "ssim" in report["gains"][0][0]


@pytest.fixture(scope="session")
def vae(comfy):
    """The embedded autoencoder's methods with eight times eight pixels for a cell of four channels."""
    import comfy.sd
    from adaptivesr.tools.small_models.checkpoints import small_checkpoint

    prefix = "first_stage_model."
    state = {key.removeprefix(prefix): value for key, value in small_checkpoint().items() if key.startswith(prefix)}
    return comfy.sd.VAE(sd=state)


def test_an_image_is_encoded_as_the_reference(estimate, vae):
    plan = estimate(image=torch.rand(1, 64, 96, 3), vae=vae)
    assert plan.latent.shape == (1, 4, 8, 12) and plan.picture is None and plan.vae is None


def test_metrics_whose_weights_cannot_be_had_are_named(comfy, estimate, monkeypatch):
    import pyiqa

    made = pyiqa.create_metric

    def without_network(name, **options):
        if name == "musiq":
            raise OSError("no network")
        return made(name, **options)

    monkeypatch.setattr(pyiqa, "create_metric", without_network)
    plan = estimate(back_end="rgb_linear", metrics="psnr, musiq, ssim")
    assert plan.left_out == ("musiq",) and [metric.name for metric in plan.metrics] == ["psnr", "ssim"]
    assert "without musiq" in comfy.module("host.gains.plan").plan_text(plan)
    with pytest.raises(ValueError, match=r"weights of musiq could not be had.*ssim"):
        estimate(back_end="rgb_linear", metrics="musiq")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"metrics": "psnr, beauty"}, "beauty.*expected some of psnr, nlpd, sharpness"),
        ({"metrics": ""}, "metrics none"),
        ({"metrics": "lpips"}, "expected some of psnr, nlpd, sharpness"),
        ({"back_end": "vae"}, "got no VAE"),
        ({"image": torch.zeros(1, 64, 64, 3)}, "no VAE to encode it"),
        ({"intervals": "1, 2, 3"}, "four whole numbers"),
        ({"intervals": "4, 3, 2, 1"}, "do not fall"),
        ({"t_sat_max": 600.0}, "lower t_sat_max"),
        ({"min_share": 0.9, "max_share": 0.5}, "lower min_share"),
    ],
)
def test_wrong_choices_are_refused_by_the_estimator(estimate, inputs, words):
    with pytest.raises(ValueError, match=words):
        estimate(**inputs)


def test_what_does_not_fit_the_run_is_refused_before_the_first_call(run, estimate, vae):
    with pytest.raises(ValueError, match=r"4 channels and 8x8 cells, the sampled one has 4 channels and 32x16 cells"):
        run(canvas(), gain=estimate(reference={"samples": torch.zeros(1, 4, 8, 8)}))
    with pytest.raises(ValueError, match=r"sampled latent is empty.*'reference'"):
        run({"samples": torch.zeros(1, 4, 16, 16)}, gain=estimate(), denoise=1.0)
    with pytest.raises(ValueError, match=r"64x64 pixels, the result will have 256x128"):
        small = estimate(back_end="vae", vae=vae, image=torch.rand(1, 64, 64, 3), reference=canvas())
        run(canvas(), gain=small)
    with pytest.raises(ValueError, match=r"both 'budget' and 'gain'.*disconnect"):
        run(canvas(), gain=estimate(), budget=torch.ones(1, 8, 8))
    with pytest.raises(ValueError, match=r"no linear picture of this model's latents.*'latent'"):
        blind_run(run, estimate)


def blind_run(run, estimate):
    import comfy.latent_formats

    kept, comfy.latent_formats.SD3.latent_rgb_factors_reshape = None, lambda x: x
    try:
        run(canvas(channels=16), "flow", gain=estimate(back_end="rgb_linear"))
    finally:
        comfy.latent_formats.SD3.latent_rgb_factors_reshape = kept


def test_timesteps_of_every_kind_of_model_lie_on_one_scale(comfy, patcher, embedded):
    host = comfy.module("host.gains.plan")
    for model in (patcher("eps"), patcher("v"), patcher("flow"), patcher("edm"), embedded.patcher):
        sampling = model.get_model_object("model_sampling")
        sigmas = torch.stack([sampling.sigma_max, sampling.sigma_max * 0.5, sampling.sigma_min, torch.tensor(0.0)])
        times = host.timesteps(sampling, sigmas.float())
        assert times[0] == pytest.approx(999.0, abs=0.5) and times[0] > times[1] > times[2] >= 0
        assert times[2] < 5  # SD3 begins at 3 of 1000


def test_finished_regions_are_framed_in_previews_and_nowhere_else(comfy, region, sample, patcher, prompts, estimate):
    seen = []
    gain = estimate(tau=1.0, t_sat_max=0.0, max_share=0.5)
    latent = canvas()["samples"]
    shown = region.RegionSampler(region.RegionOptions(128, 0, gain=gain))
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2))
    result = sample(
        patcher("eps"), shown, prompts(1), prompts(2), latent, noise, steps=8,
        callback=lambda step, x0, x, total: seen.append(x0.clone()),
    )  # fmt: skip
    model = patcher("eps").model
    torch.testing.assert_close(model.process_latent_out(seen[-1]), result)
    module = comfy.module("host.gains.plan")
    framed = module.outlined(seen[-1], [(0, 1)], region.regions_of(model, (16, 32), shown.options))
    changed = (framed != seen[-1]).all(1)[0]
    inside = torch.zeros(16, 32, dtype=torch.bool)
    inside[:, 16:] = True
    inside[1:-1, 17:-1] = False
    assert torch.equal(changed, inside)


@pytest.fixture(scope="session")
def embedded(comfy):
    """The embedded teacher, whole."""
    return comfy.module("host.resshift.loading").load_one_step("embedded: teacher, 15 steps")


def test_the_embedded_teacher_runs_with_gains(comfy, estimate, embedded):
    picture = torch.full((1, 24, 48, 3), 0.5)
    picture[:, :, 24:] = torch.rand(1, 24, 24, 3, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        empty = comfy.node("AdaptiveSREmptyPrompt").execute(embedded.patcher).args[0]
        prepared = comfy.node("AdaptiveSRResShiftConditioning").execute(embedded, empty, empty, picture).args
        output = comfy.node("AdaptiveSRTiledRegionSampler").execute(
            embedded.patcher, *prepared, 0, 15, 1.0, "euler", "simple", 1.0, 96, 0, "consensus",
            gain=estimate(reference=prepared[2]),
        ).args  # fmt: skip
    report = json.loads(output[2])
    assert output[0]["samples"].shape == prepared[2]["samples"].shape
    assert report["region_calls"] <= report["fixed_region_calls"] == 15 * report["tiles"]


def test_region_report_tells_classes_and_exits(comfy, run, estimate):
    _, _, report = run(canvas(), gain=estimate(tau=1.0, t_sat_max=0.0, prior=0.0))
    node = comfy.node("AdaptiveSRRegionReport")
    picture, summary = node.execute(json.dumps(report), torch.rand(1, 128, 256, 3), 0.4).args
    assert "1.1 WSSSSS complete" in summary and "gains: latent (psnr, nlpd, sharpness)" in summary
    plain = {key: value for key, value in report.items() if key != "classes"}
    without, short = node.execute(json.dumps(plain), torch.rand(1, 128, 256, 3), 0.4).args
    assert "gains:" not in short and picture.shape == without.shape


def test_fresh_nodes_grow_by_the_papers_rule_and_old_files_as_before(comfy, estimate):
    entries = {entry.id: entry for entry in comfy.node("AdaptiveSRMMLEGainEstimator").define_schema().inputs}
    assert entries["growing"].default == "both" and list(entries)[-1] == "growing"
    assert estimate(back_end="latent").settings.growing.value == "either"
    assert estimate(back_end="latent", growing="both").settings.growing.value == "both"


def test_quality_without_weights_can_end_a_region(comfy, estimate):
    plan = estimate(back_end="rgb_linear", metrics="psnr, piqe", t_sat_max=300.0)
    assert [metric.name for metric in plan.metrics] == ["psnr", "piqe"] and not plan.left_out
    assert plan.settings.patience == 2 and plan.settings.t_sat_max == 300.0


def test_a_reference_that_is_no_batch_of_maps_is_a_sentence(run, estimate):
    gain = estimate(back_end="latent", reference={"samples": torch.rand(4, 16, 32)})
    with pytest.raises(ValueError, match=r"reference of GAIN is a latent of shape \(4, 16, 32\)"):
        run(canvas(), gain=gain)


def test_a_link_that_brings_nothing_leaves_the_widgets_default(comfy, estimate):
    plan = estimate(back_end="latent", rule=None, growing=None, prior=None)
    assert plan.tolerance is None and plan.settings.growing.value == "both" and plan.prior == 1.0
