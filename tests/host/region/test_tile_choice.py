"""tile_size 0, even spacing, and what Region Cost Forecast says about them."""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def fitting(comfy):
    return comfy.module("host.regions.fitting")


@pytest.mark.parametrize(("kind", "trained"), [("eps", 512), ("v", 768), ("sdxl", 1024), ("flow", 1024)])
def test_tiles_are_near_the_size_of_the_models_kind(fitting, patcher, kind, trained):
    model = patcher(kind).model
    found = fitting.tiles_of(model, (509, 300), 0, 64)
    for axis in (found.rows, found.columns):
        assert 0.75 * trained <= 8 * axis.size <= 1.25 * trained
        assert axis.size % fitting.kind_of(model).multiple == 0
    assert found.overlap >= 8


@pytest.mark.parametrize(("kind", "least"), [("eps", 6), ("v", 9), ("sdxl", 12)])
def test_chosen_tiles_share_enough_however_little_is_asked_for(fitting, patcher, kind, least):
    assert fitting.tiles_of(patcher(kind).model, (500, 500), 0, 0).overlap >= least


def test_a_canvas_near_the_trained_size_is_one_region(fitting, patcher):
    model = patcher("eps").model
    (whole,) = fitting.tiles_of(model, (80, 16), 0, 64).regions
    assert (whole.height, whole.width) == (80, 16)
    assert fitting.tiles_of(model, (82, 16), 0, 64).count == 2


def test_tiles_of_a_chosen_size_are_spread_evenly(region, patcher):
    regions = region.regions_of(patcher("v").model, (16, 256), region.RegionOptions(768, 192))
    assert [r.x for r in regions] == [0, 53, 107, 160]


def test_levels_and_windows_decide_the_multiple(comfy, fitting, patcher):
    assert fitting.kind_of(patcher("eps").model).multiple == 2
    loading = comfy.module("host.resshift.loading")
    kind = fitting.kind_of(loading.load_one_step(next(iter(loading.EMBEDDED))).patcher.model)
    assert (kind.trained_px, kind.multiple) == (256, 1)


@pytest.fixture
def plan(comfy, patcher):
    node = comfy.module("nodes.region_analysis").UpscalePlan

    def get(kind="eps", **inputs):
        sizes = {"width": 256, "height": 256, "scale": 8.0, "steps": 3, "cfg": 6.0, "tile_size": 0, "overlap": 128}
        result = node.execute(patcher(kind), **{**sizes, **inputs}).result
        return json.loads(result[0]), result[5:]

    return get


def test_upscale_plan_offers_choices_that_give_what_they_say(plan):
    chosen, _ = plan()
    for name in ("next_cheaper", "next_safer"):
        offer = chosen["tiling"][name]
        other, _ = plan(tile_size=offer["tile_size"], overlap=offer["overlap"])
        assert {key: other["tiling"][key] for key in ("tile", "grid", "shared_px", "tflop")} == {
            key: offer[key] for key in ("tile", "grid", "shared_px", "tflop")
        }
    cheaper, safer = chosen["tiling"]["next_cheaper"], chosen["tiling"]["next_safer"]
    assert cheaper["tflop"] < chosen["tiling"]["tflop"] and cheaper["shared_px"] < 128
    assert safer["shared_px"] > chosen["tiling"]["shared_px"]


def test_upscale_plan_counts_steps_and_guidance(plan):
    once, twice = plan(cfg=1.0)[0]["tiling"], plan(steps=6)[0]["tiling"]
    assert twice["tflop"] == pytest.approx(4 * once["tflop"], rel=1e-3)


@pytest.mark.parametrize(("kind", "network"), [("eps", "SD 2.1"), ("sdxl", "SDXL"), ("flow", None)])
def test_upscale_plan_tells_no_arithmetic_of_networks_that_were_not_counted(plan, kind, network):
    tiling = plan(kind)[0]["tiling"]
    assert tiling.get("tflop_of") == network and ("tflop" in tiling) == (network is not None)


class Guided:
    """What the count asks of a guider."""

    def __init__(self, model, cfg, areas=1, **options):
        self.inner_model, self.cfg, self.model_options = model, cfg, options
        self.conds = {"positive": [None] * areas, "negative": [None]}


@pytest.mark.parametrize(
    ("guider", "rows"),
    [
        ({"cfg": 1.0}, 1),
        ({"cfg": 1.0, "disable_cfg1_optimization": True}, 2),
        ({"cfg": 3.0}, 2),
        ({"cfg": 3.0, "areas": 3}, 4),
    ],
)
def test_a_run_counts_the_arithmetic_of_every_condition(fitting, patcher, monkeypatch, guider, rows):
    model = patcher("eps").model
    assert fitting.arithmetic(Guided(model, **guider), (64, 72), 10) is None  # a small network of that kind
    monkeypatch.setitem(model.model_config.unet_config, "model_channels", 320)
    cost = fitting.kind_of(model).cost(64, 72)
    assert fitting.arithmetic(Guided(model, **guider), (64, 72), 10) == 10 * rows * cost


def test_no_arithmetic_is_told_of_kinds_that_nobody_counted(fitting, patcher):
    assert fitting.arithmetic(Guided(patcher("flow").model, 3.0), (64, 64), 1) is None


def test_upscale_plan_passes_its_settings_on_as_they_came(plan):
    assert plan()[1] == (0, 128)


@pytest.mark.parametrize("size", [8, 56])
def test_sides_that_no_network_takes_are_refused(plan, size):
    with pytest.raises(ValueError, match=f"tile_size of {size} pixels: expected 0.* at least 64"):
        plan(tile_size=size)


def test_an_overlap_beyond_half_of_every_tile_is_refused(plan):
    with pytest.raises(ValueError, match="overlap of 400 pixels for tiles of 640"):
        plan(overlap=400)


def test_chosen_tiles_sample_what_the_plan_counted(region, sample, patcher, prompts):
    latent = torch.zeros(1, 4, 20, 100)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    sampler = region.RegionSampler(region.RegionOptions(0, 64))
    sample(patcher("eps"), sampler, prompts(1), prompts(2), latent, noise, steps=2)
    assert sampler.report["tiles"] == 2
    assert [r[2:] for r in sampler.report["regions"]] == [[20, 54]] * 2
