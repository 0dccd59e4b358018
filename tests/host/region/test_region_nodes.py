"""The nodes: KSampler's result with one region, forecasts that hold, memory, cancel, refusals."""

import json

import pytest
import torch


@pytest.fixture
def latent():
    return {"samples": torch.randn(1, 4, 40, 24, generator=torch.Generator().manual_seed(3))}


@pytest.fixture
def run(comfy, patcher, prompts):
    """The node with its defaults but for what is given: (LATENT, region map, report)."""

    def call(latent, kind="eps", model=None, **inputs):
        node = comfy.node("AdaptiveSRTiledRegionSampler")
        values = {
            "seed": 5, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
            "tile_size": 512, "overlap": 64, "merge_mode": "consensus", **inputs,
        }  # fmt: skip
        with torch.inference_mode():
            output = node.execute(model or patcher(kind), prompts(1), prompts(2), latent, **values).args
        return output[0], output[1], json.loads(output[2])

    return call


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_one_region_gives_what_ksampler_gives_for_the_seed(comfy, patcher, prompts, run, kind):
    channels = 16 if kind == "flow" else 4
    latent = {
        "samples": torch.randn(3, channels, 12, 10, generator=torch.Generator().manual_seed(1)),
        "batch_index": [0, 2, 5],
    }
    latent["noise_mask"] = torch.ones(1, 96, 80)
    latent["noise_mask"][:, :40] = 0
    with torch.inference_mode():
        expected = comfy.node("KSampler")().sample(
            patcher(kind), 5, 4, 3.0, "euler", "normal", prompts(1), prompts(2), latent, denoise=0.5
        )[0]
    result, _, _ = run(latent, kind)
    assert result["batch_index"] == [0, 2, 5]
    torch.testing.assert_close(result["samples"], expected["samples"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "ddpm"])
def test_a_part_with_its_place_is_that_part_of_the_whole_where_regions_are_on_their_own(run, sampler):
    whole = {"samples": torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(3))}
    part = {"samples": whole["samples"][..., 16:, 8:24].clone()}
    alone = {"sampler_name": sampler, "tile_size": 128, "overlap": 0, "merge_mode": "final"}
    expected, _, _ = run(whole, **alone, noise_top=256, noise_left=64)
    shifted = {"samples": whole["samples"][..., 8:24].clone()}
    middle, _, _ = run(shifted, **alone, noise_top=256, noise_left=128)
    result, _, _ = run(part, **alone, noise_top=384, noise_left=128)
    torch.testing.assert_close(result["samples"], middle["samples"][..., 16:, :], atol=1e-4, rtol=1e-5)
    own, _, _ = run(part, **alone)
    assert float((own["samples"] - result["samples"]).abs().max()) > 0.1
    left, _, _ = run({"samples": whole["samples"][..., :16].clone()}, **alone, noise_top=256, noise_left=64)
    torch.testing.assert_close(left["samples"], expected["samples"][..., :16], atol=1e-4, rtol=1e-5)


def test_a_place_between_cells_is_refused(run, latent):
    with pytest.raises(ValueError, match="noise_top 8 and noise_left 4: expected multiples of the 8 pixels"):
        run(latent, noise_top=8, noise_left=4)


def test_an_empty_latent_takes_the_models_channels(run):
    result, _, _ = run({"samples": torch.zeros(1, 4, 8, 8), "downscale_ratio_spacial": 8}, "flow", denoise=1.0)
    assert result["samples"].shape == (1, 16, 8, 8) and "downscale_ratio_spacial" not in result


@pytest.mark.parametrize("merge", ["aggregate", "consensus", "final"])
def test_results_do_not_depend_on_the_region_batch(run, latent, merge):
    one, _, first = run(latent, tile_size=128, merge_mode=merge, region_batch=1)
    many, _, second = run(latent, tile_size=128, merge_mode=merge, region_batch=5)
    torch.testing.assert_close(one["samples"], many["samples"], atol=1e-4, rtol=1e-5)
    assert (first["calls"], second["calls"]) == (32, 8) and first["region_calls"] == second["region_calls"]


def test_the_plan_is_what_the_run_counts(comfy, patcher, run, latent):
    node = comfy.node("AdaptiveSRUpscalePlan")
    plan, width, height, *_ = node.execute(patcher("eps"), 96, 160, 2.0, 4, 3.0, 128, 64, 3).args
    plan = json.loads(plan)
    assert (width, height) == (192, 320) and plan["size"] == "192x320"
    _, _, report = run(latent, tile_size=128, region_batch=3)
    assert report["tflop"] is None  # the small network was not counted
    for count in ("tiles", "images", "calls", "region_calls", "latent_mpx"):
        assert plan[count] == report[count], count
    assert plan["call_gb"] < plan["untiled_call_gb"] and plan["latent_mpx_with_guidance"] == 2 * plan["latent_mpx"]


def test_the_plan_takes_the_size_from_an_image(comfy, patcher):
    node = comfy.node("AdaptiveSRUpscalePlan")
    image = torch.zeros(2, 33, 50, 3)
    plan, width, height, *_ = node.execute(patcher("eps"), 1, 1, 4.0, 4, 1.0, 512, 128, 1, image).args
    assert (width, height) == (200, 136) and json.loads(plan)["images"] == 2


def test_a_budget_map_spends_steps_where_it_is_bright(run, latent):
    budget = torch.zeros(1, 320, 192)
    budget[:, :128] = 1
    result, heat, report = run(latent, tile_size=128, overlap=0, budget=budget)
    steps = report["steps_per_region"][0]
    rows = [region[0] for region in report["regions"]]
    assert {count for row, count in zip(rows, steps) if row == 0} == {4}
    assert {count for row, count in zip(rows, steps) if row >= 16} == {1}
    assert report["skipped"] > 0.3 and torch.isfinite(result["samples"]).all()
    assert heat.ndim == 4 and heat.shape[-1] == 3 and float(heat.min()) >= 0 and float(heat.max()) <= 1


def test_a_budget_map_with_aggregate_says_what_to_choose(run, latent):
    budget = torch.tensor([[[1.0], [0.0]]])
    with pytest.raises(ValueError, match="consensus"):
        run(latent, tile_size=128, overlap=0, merge_mode="aggregate", budget=budget)


def test_the_report_is_drawn_over_a_picture_of_any_size(comfy, run, latent):
    _, _, report = run(latent, tile_size=128)
    node = comfy.node("AdaptiveSRRegionReport")
    small, summary = node.execute(json.dumps(report), torch.rand(2, 30, 20, 4), 0.4).args
    assert small.shape[0] == 2 and small.shape[-1] == 3
    large, _ = node.execute(json.dumps(report), torch.rand(1, 1600, 960, 3), 0.4).args
    assert 1024 <= large.shape[1] < 1100
    assert "8 regions" in summary and "4 of 4 steps" in summary
    for wrong in ("not json", "[]", '{"canvas": [1, 1]}'):
        with pytest.raises(ValueError, match="Tiled Region Sampler"):
            node.execute(wrong, torch.rand(1, 8, 8, 3), 0.4)


def test_memory_is_planned_for_the_regions_of_a_call(patcher, run, latent):
    import comfy.model_base

    shapes = []

    class Recording(comfy.model_base.BaseModel):
        def memory_required(self, input_shape, cond_shapes=None):
            shapes.append(tuple(input_shape))
            return super().memory_required(input_shape, cond_shapes=cond_shapes or {})

    model = patcher("eps").model
    kind, model.__class__ = model.__class__, Recording
    try:
        run(latent, tile_size=128, region_batch=2)
    finally:
        model.__class__ = kind
    assert shapes and max(shape[0] * shape[2] * shape[3] for shape in shapes) == 2 * 2 * 16 * 16


def test_progress_counts_region_steps_and_previews_show_the_canvas(region, sample, patcher, prompts, latent):
    seen = []
    options = region.RegionOptions(128, 64, rows=3)
    noise = torch.randn(latent["samples"].shape)
    result = sample(
        patcher("eps"), region.RegionSampler(options), prompts(1), prompts(2), latent["samples"], noise,
        callback=lambda step, x0, x, total: seen.append((step, tuple(x0.shape), total, x0.clone())),
    )  # fmt: skip
    assert all(shape == (1, 4, 40, 24) and total == 32 for _, shape, total, _ in seen)
    assert seen[-1][0] == 31
    final = patcher("eps").model.process_latent_out(seen[-1][3])
    torch.testing.assert_close(final, result)


def test_cancel_stops_within_one_call_and_the_next_run_is_clean(region, sample, patcher, prompts, latent, run):
    import comfy.model_management as mm

    expected, _, _ = run(latent, tile_size=128, region_batch=1)
    calls = []

    def record(executor, *arguments, **options):
        calls.append(1)
        mm.interrupt_current_processing(True)
        return executor(*arguments, **options)

    model = patcher("eps").clone()
    model.add_wrapper_with_key("apply_model", "test", record)
    with pytest.raises(mm.InterruptProcessingException):
        run(latent, model=model, tile_size=128, region_batch=1, cfg=1.0)
    assert len(calls) == 1
    mm.interrupt_current_processing(False)
    again, _, _ = run(latent, tile_size=128, region_batch=1)
    assert torch.equal(again["samples"], expected["samples"])


def test_out_of_memory_halves_the_batch_and_says_so(patcher, run, latent):
    import comfy.model_management as mm

    expected, _, _ = run(latent, tile_size=128)

    def limited(executor, x, *arguments, **options):
        if len(x) > 4:
            raise mm.OOM_EXCEPTION("out of memory")
        return executor(x, *arguments, **options)

    model = patcher("eps").clone()
    model.add_wrapper_with_key("apply_model", "test", limited)
    result, _, report = run(latent, model=model, tile_size=128, region_batch=8)
    assert report["halvings"] == 2 and report["batch_sizes"] == {"2": 16}
    torch.testing.assert_close(result["samples"], expected["samples"], atol=1e-4, rtol=1e-5)


def test_a_region_that_overflows_in_half_precision_is_repeated_in_float32(half_precision, run, latent):
    result, _, report = run(latent, model=half_precision, tile_size=128, cfg=1.0, steps=1, denoise=0.3)
    assert report["float32_retries"] == report["region_calls"] == 8
    assert torch.isfinite(result["samples"]).all()
    assert half_precision.model.get_dtype_inference() == torch.float16
    assert not any(getattr(m, "comfy_cast_weights", False) for m in half_precision.model.diffusion_model.modules())


def test_a_model_that_never_gives_finite_values_is_an_error_that_names_the_region(patcher, run, latent):
    def broken(executor, *args, **kwargs):
        return executor(*args, **kwargs) * float("nan")

    model = patcher("eps").clone()
    model.add_wrapper_with_key("apply_model", "test", broken)
    with pytest.raises(ValueError, match=r"region \d+ .*of image 1"):
        run(latent, model=model, tile_size=128, overlap=0, merge_mode="final")


def test_a_latent_that_is_not_finite_blames_the_vae_and_not_the_model(run, latent):
    latent["samples"][0, 0, 30, 4] = float("nan")
    with pytest.raises(ValueError, match=r"Got a LATENT with NaN.*--fp32-vae") as error:
        run(latent, tile_size=128, overlap=0, merge_mode="final")
    assert "in float32 too" not in str(error.value)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.ones(1, 16, 8, 8), "16 channels"),
        (torch.ones(1, 4, 3, 8, 8), r"\(1, 4, 3, 8, 8\)"),
        (torch.ones(1, 4, 8), "maps"),
    ],
)
def test_latents_of_another_kind_are_a_sentence(run, samples, words):
    with pytest.raises(ValueError, match=words):
        run({"samples": samples})


def test_an_overlap_above_half_a_tile_is_a_sentence(run, latent):
    with pytest.raises(ValueError, match="at most half a tile"):
        run(latent, tile_size=128, overlap=128)


def test_ddpm_on_a_flow_model_names_the_samplers_that_work(run):
    with pytest.raises(ValueError, match="euler"):
        run({"samples": torch.zeros(1, 16, 8, 8)}, "flow", sampler_name="ddpm")


@pytest.mark.parametrize("kind", ["IMG_TO_IMG", "FLOW_COSMOS"])
def test_other_predictions_are_refused_by_name(region, kind):
    import comfy.model_base
    import comfy.supported_models

    config = comfy.supported_models.SD20({"disable_unet_model_creation": True})
    sampling = comfy.model_base.model_sampling(config, getattr(comfy.model_base.ModelType, kind))
    with pytest.raises(ValueError, match="IMG_TO_IMG" if kind == "IMG_TO_IMG" else "COSMOS_RFLOW"):
        region.noise_space(sampling)


@pytest.mark.parametrize(("name", "kind"), [("euler_ancestral", "eps"), ("ddpm", "v"), ("euler_ancestral", "flow")])
def test_random_samplers_give_the_same_picture_for_a_seed(run, name, kind):
    latent = {"samples": torch.zeros(1, 16 if kind == "flow" else 4, 24, 24)}
    inputs = {"kind": kind, "sampler_name": name, "tile_size": 128, "denoise": 1.0}
    first, _, _ = run(latent, region_batch=2, **inputs)
    again, _, _ = run(latent, region_batch=1, **inputs)
    other, _, _ = run(latent, seed=6, **inputs)
    scale = float(first["samples"].abs().max())
    torch.testing.assert_close(again["samples"] / scale, first["samples"] / scale, atol=1e-4, rtol=0)
    assert float((other["samples"] - first["samples"]).abs().max()) > 0.1


def test_the_sampler_socket_runs_in_the_hosts_custom_sampler(comfy, sample, patcher, prompts, run, latent):
    from comfy.sample import prepare_noise

    node = comfy.node("AdaptiveSRRegionSampler")
    sampler = node.execute("euler", 128, 64, "consensus", 2).args[0]
    noise = prepare_noise(latent["samples"], 5)
    result = sample(patcher("eps"), sampler, prompts(1), prompts(2), latent["samples"], noise, denoise=0.5, seed=5)
    expected, _, _ = run(latent, tile_size=128)
    torch.testing.assert_close(result, expected["samples"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (17, 16)])
def test_odd_canvases_keep_their_size(run, size):
    result, _, _ = run({"samples": torch.randn(2, 4, *size)}, tile_size=128, steps=2)
    assert result["samples"].shape == (2, 4, *size)
