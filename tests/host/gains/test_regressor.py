"""Back end regressor: the network's gains decide, row by row alike, on its own base only."""

import pytest
import torch

JUMPING = {"tau": 0.02, "back_end": "regressor"}


def test_gains_are_told_by_the_network_and_jumps_follow(run, estimate, embedded, for_embedded):
    models = for_embedded()
    gain = estimate(**JUMPING, gain_models=models)
    assert [metric.name for metric in gain.metrics] == ["psnr", "nlpd", "sharpness"]
    samples, report = run(embedded, gain, region_batch=3)
    assert torch.isfinite(samples).all() and report["tiles"] == 8
    assert report["gain_back_end"] == "regressor" and report["gain_metrics"] == ["psnr", "nlpd", "sharpness"]
    assert {"psnr", "nlpd", "sharpness", "fr", "nr"} <= set(report["gains"][0][0])
    assert report["region_calls"] < report["fixed_region_calls"]
    assert len({tuple(gains.values()) for gains in report["gains"][0]}) == 8  # every region has its own


def test_a_run_is_repeatable_and_does_not_depend_on_the_batch(run, estimate, embedded, for_embedded):
    gain = estimate(**JUMPING, gain_models=for_embedded())
    first, before = run(embedded, gain, region_batch=8)
    second, after = run(embedded, gain, region_batch=8)
    assert torch.equal(first, second) and before["gains"] == after["gains"]
    alone, one = run(embedded, gain, region_batch=1)
    assert one["classes"] == before["classes"]
    torch.testing.assert_close(alone, first, atol=1e-4, rtol=1e-5)


def test_without_jumps_the_run_is_the_fixed_one(run, estimate, embedded, for_embedded):
    gain = estimate(back_end="regressor", intervals="1, 1, 1, 1", gain_models=for_embedded())
    assert torch.equal(run(embedded, gain)[0], run(embedded)[0])


def test_the_files_tau_and_half_count(estimate, comfy, for_embedded):
    paper = estimate(back_end="regressor", tau=0.01, gain_models=for_embedded())
    own = estimate(back_end="regressor", tau=0.01, gain_models=for_embedded(facts={"tau": 1e-3}))
    assert paper.settings.tau == pytest.approx(0.01) and own.settings.tau == pytest.approx(0.002)
    line = comfy.module("host.gains.plan").plan_text(own)
    assert (
        line
        == "regressor: psnr, nlpd, sharpness (its file's); tau 0.01 for 200 steps, 0.002 on the scale of these gains"
    )
    assert "tau 0.01 for 200 steps" in comfy.module("host.gains.plan").plan_text(paper) and "scale" not in comfy.module(
        "host.gains.plan"
    ).plan_text(paper)


def test_quality_counts_below_the_files_half_only(run, estimate, embedded, for_embedded):
    _, late = run(embedded, estimate(**JUMPING, gain_models=for_embedded(facts={"t_half": 1.0})))
    assert all("psnr" in gains and "sharpness" not in gains for gains in late["gains"][0])


def test_the_networks_ride_with_the_model_and_are_loaded_for_other_guiders(pack, estimate, embedded, for_embedded):
    models = for_embedded()
    gain = estimate(**JUMPING, gain_models=models)
    region = pack("host.regions.sampler")
    options = region.RegionOptions(64, 0, gain=gain)
    clone = pack("host.regions.run").with_region_memory(embedded.model, embedded.latent["samples"], options)
    assert clone.get_additional_models_with_key("adaptivesr_gain_models") == [models.patcher]
    assert not embedded.model.get_additional_models_with_key("adaptivesr_gain_models")
    import comfy.model_management as mm
    import comfy.samplers

    mm.unload_all_models()
    samples = embedded.latent["samples"]
    sigmas = comfy.samplers.KSampler(embedded.model, 3, embedded.model.load_device, "euler", "simple", 1.0).sigmas
    with torch.inference_mode():
        comfy.samplers.sample(
            embedded.model, torch.randn(samples.shape), embedded.positive, embedded.negative, 1.0, embedded.model.load_device,
            region.RegionSampler(options), sigmas, embedded.model.model_options, latent_image=samples, disable_pbar=True, seed=0,
        )  # fmt: skip
    assert any(patcher.is_clone(models.patcher) for patcher in mm.loaded_models())


def test_another_base_is_refused_with_both_names(run, estimate, embedded, host, put, parts):
    models = host.load_gain_models(put(("0" * 16, "StableSR on SD20"), parts(48, 3)))
    with pytest.raises(ValueError, match=r"trained on StableSR on SD20 \(0{16}\), the MODEL is ResidualShiftModel"):
        run(embedded, estimate(back_end="regressor", gain_models=models))


def test_latents_of_other_channels_are_refused(run, estimate, embedded, host, put, parts):
    models = host.load_gain_models(put(host.base_of(embedded.model), parts(4, 3)))
    with pytest.raises(ValueError, match="regressor is for latents of 4 channels, the sampled ones have 48"):
        run(embedded, estimate(back_end="regressor", gain_models=models))


def test_a_missing_regressor_is_refused(estimate, for_embedded):
    with pytest.raises(ValueError, match=r"'regressor' got no GAIN_MODELS: expected .* Load MMLE"):
        estimate(back_end="regressor")
    with pytest.raises(ValueError, match=r"without one \(PFJ for an LR condition of 3 channels"):
        estimate(back_end="regressor", gain_models=for_embedded(mmle=False))


def test_other_back_ends_do_not_look_at_the_file(estimate, for_embedded):
    plan = estimate(back_end="latent", gain_models=for_embedded())
    assert plan.models is None and plan.patchers() == []


def test_a_base_is_known_whatever_its_storage_type(host, embedded, pack):
    identity, label = host.base_of(embedded.model)
    assert len(identity) == 16 and label.startswith("ResidualShiftModel (")
    again = pack("host.resshift.loading").load_one_step("embedded: teacher, 15 steps").patcher
    again.model.diffusion_model.half()
    assert host.base_of(again.clone()) == (identity, label)
    again.model.diffusion_model.network.register_parameter("more", torch.nn.Parameter(torch.zeros(1)))
    assert host.base_of(again)[0] != identity
