"""Everything spatial in the conditioning follows its region, at the region's own noise level.

The reference is the host's own sampler on each crop with hand-cropped conditions: without overlap, and merged at the end
only, tiles are exactly that.
"""

import pytest
import torch

HEIGHT, WIDTH, TILE = 16, 32, 16
LEFT, RIGHT = (slice(0, 16), slice(0, 16)), (slice(0, 16), slice(16, 32))


@pytest.fixture(scope="session")
def conditions(comfy):
    return comfy.module("host.regions.conditions")


@pytest.fixture
def canvas():
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(1, 4, HEIGHT, WIDTH, generator=generator) for _ in range(2)]


@pytest.fixture
def tiled(patcher, region, sample):
    """Runs the region sampler on two tiles side by side, both in one call."""

    def run(positive, negative, latent, noise, *, model=None, sampler="euler", budget=None, rows=2, **values):
        options = region.RegionOptions(128, 0, region.MergeMode.FINAL, rows, sampler, budget)
        chosen = region.RegionSampler(options)
        result = sample(model or patcher("eps"), chosen, positive, negative, latent, noise, **values)
        return result, chosen.report

    return run


@pytest.fixture
def plain(patcher, sample):
    """Runs the host's sampler on one crop of the canvas."""

    def run(part, positive, negative, latent, noise, *, model=None, sampler="euler", levels=None, steps=4, **values):
        import comfy.samplers

        patch = model or patcher("eps")
        if levels is not None:
            grid = comfy.samplers.KSampler(patch, steps, patch.load_device, "euler", "normal", 1.0).sigmas
            values["sigmas"] = grid[list(levels)]
        crops = [t[(..., *part)] for t in (latent, noise)]
        return sample(patch, comfy.samplers.sampler_object(sampler), positive, negative, *crops, steps=steps, **values)

    return run


def assert_equal(actual, expected):
    """The same kernels ran on batches of other sizes."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual / scale, expected / scale, atol=1e-5, rtol=0)


def masked(conditioning, mask, **values):
    return [
        [c[0], {**c[1], "mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False, **values}]
        for c in conditioning
    ]


def with_values(conditioning, **values):
    return [[c[0], {**c[1], **values}] for c in conditioning]


def half(left):
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[(0, *(LEFT if left else RIGHT))] = 1
    return mask


def test_tiles_without_overlap_are_crops_pasted_together(tiled, plain, prompts, canvas):
    result, report = tiled(prompts(1), prompts(2), *canvas)
    for part in (LEFT, RIGHT):
        assert_equal(result[(..., *part)], plain(part, prompts(1), prompts(2), *canvas))
    assert report["batch_sizes"] == {"2": 4} and report["calls"] == 4


def test_a_half_mask_gives_its_prompt_to_its_half_only(tiled, plain, prompts, canvas):
    positive = [*masked(prompts(1), half(True)), *masked(prompts(3), half(False))]
    result, _ = tiled(positive, prompts(2), *canvas)
    assert_equal(result[(..., *LEFT)], plain(LEFT, prompts(1), prompts(2), *canvas))
    assert_equal(result[(..., *RIGHT)], plain(RIGHT, prompts(3), prompts(2), *canvas))


def test_an_area_in_one_tile_is_a_mask_with_the_hosts_faded_border(tiled, plain, prompts, canvas):
    positive = [*prompts(1), *with_values(prompts(3), area=(16, 16, 0, 16), strength=1.5)]
    result, _ = tiled(positive, prompts(2), *canvas)
    weights = torch.ones(1, 16, 16)
    weights[..., :4] = torch.arange(1, 5) / 4
    by_hand = [*prompts(1), *masked(prompts(3), weights, strength=1.5)]
    assert_equal(result[(..., *LEFT)], plain(LEFT, prompts(1), prompts(2), *canvas))
    assert_equal(result[(..., *RIGHT)], plain(RIGHT, by_hand, prompts(2), *canvas))


@pytest.mark.parametrize("area", [(16, 16, 0, 16), (7, 9, 3, 5), (16, 32, 0, 0), (40, 50, 2, 1), (3, 3, 13, 0)])
@pytest.mark.parametrize("with_mask", [False, True])
def test_weights_of_areas_are_the_hosts(conditions, area, with_mask):
    import comfy.samplers

    mask = torch.rand(1, HEIGHT, WIDTH) if with_mask else None
    entry = {"area": area, "model_conds": {}, "uuid": None, **({"mask": mask} if with_mask else {})}
    x = torch.zeros(1, 4, HEIGHT, WIDTH)
    found = comfy.samplers.get_area_and_mult(entry, x, torch.ones(1))
    height, width, top, left = found.area
    expected = torch.zeros(1, HEIGHT, WIDTH)
    expected[:, top : top + height, left : left + width] = found.mult[:, 0]
    ours = conditions.canvas_mask(mask, area, (HEIGHT, WIDTH), torch.device("cpu"))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def hint(bright=None):
    generator = torch.Generator().manual_seed(21)
    picture = torch.rand(1, 3, HEIGHT * 8, WIDTH * 8, generator=generator) * 0.2
    if bright is not None:
        picture[..., :64, :64] = bright
    return picture


def crop_hint(picture, part):
    return picture[..., part[0].start * 8 : part[0].stop * 8, part[1].start * 8 : part[1].stop * 8]


def controlled(prompts, link):
    """Both prompts with the very same control, as the host's Apply ControlNet gives them."""
    return [with_values(prompts(seed), control=link, control_apply_to_uncond=False) for seed in (1, 2)]


def test_a_bright_corner_of_a_hint_changes_its_tile_only(tiled, prompts, canvas, control):
    dark, _ = tiled(*controlled(prompts, control(hint())), *canvas)
    bright, _ = tiled(*controlled(prompts, control(hint(1.0))), *canvas)
    assert torch.equal(bright[(..., *RIGHT)], dark[(..., *RIGHT)])
    assert float((bright - dark)[(..., *LEFT)].abs().max()) > 1e-3


def test_two_controlnets_see_the_crops_of_their_own_hints(tiled, plain, prompts, canvas, control):
    first, second = hint(1.0), hint().flip(-1)[..., ::2, ::2]  # the second has another size and is enlarged
    large = torch.nn.functional.interpolate(second, scale_factor=2, mode="nearest")

    def chain(a, b):
        return control(a, 0.7, previous=control(b, 0.4))

    result, _ = tiled(*controlled(prompts, chain(first, second)), *canvas)
    for part in (LEFT, RIGHT):
        expected = plain(part, *controlled(prompts, chain(crop_hint(first, part), crop_hint(large, part))), *canvas)
        assert_equal(result[(..., *part)], expected)


class SmallAdapter(torch.nn.Module):
    """In the place of a T2I-Adapter: features from hint pixels alone."""

    unshuffle_amount = 8

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3 * 64, 64, 1)

    def forward(self, hint):
        return {"input": [self.layer(torch.nn.functional.pixel_unshuffle(hint, 8))]}


def test_t2i_adapters_see_the_crops_of_their_hints(tiled, plain, prompts, canvas):
    from comfy.controlnet import T2IAdapter

    torch.manual_seed(3)
    network = SmallAdapter().requires_grad_(False)

    def adapter(picture):
        return T2IAdapter(network, 3, 8, "nearest-exact", torch.device("cpu")).set_cond_hint(picture, 0.8)

    result, _ = tiled(*controlled(prompts, adapter(hint(1.0))), *canvas)
    for part in (LEFT, RIGHT):
        assert_equal(
            result[(..., *part)], plain(part, *controlled(prompts, adapter(crop_hint(hint(1.0), part))), *canvas)
        )


class LatentControl(torch.nn.Module):
    """In the place of a ControlNet whose hint is an encoded picture with a mask beside it."""

    dtype = torch.float32

    def __init__(self, channels):
        super().__init__()
        self.layer = torch.nn.Conv2d(channels + 1, 64, 1)

    def forward(self, x, hint, timesteps, context, **extra):
        return {"input": [self.layer(hint)]}


def test_encoded_hints_and_their_masks_are_cropped(comfy, tiled, plain, prompts, canvas):
    from comfy.controlnet import ControlNet

    vae = comfy.module("host.resshift.loading").load_one_step("embedded: one step").vae
    torch.manual_seed(4)
    network = LatentControl(vae.latent_channels).requires_grad_(False)
    cell = vae.downscale_ratio
    picture = torch.rand(1, 3, HEIGHT * cell, WIDTH * cell)
    mask = torch.rand(1, 1, HEIGHT * cell, WIDTH * cell).round()
    kept = []  # the host trips over ControlNets that it has loaded and that are gone while their network lives

    def link(part=(slice(None), slice(None))):
        pixels = [slice(s.start and s.start * cell, s.stop and s.stop * cell) for s in part]
        formatted = comfy.module("host.resshift.patchers").ResidualShiftLatents(vae.latent_channels, cell)
        made = ControlNet(network, compression_ratio=1, latent_format=formatted, load_device=torch.device("cpu"))
        kept.append(made)
        return made.set_cond_hint(picture[(..., *pixels)], 0.8, vae=vae, extra_concat=[mask[(..., *pixels)]])

    result, _ = tiled(*controlled(prompts, link()), *canvas)
    for part in (LEFT, RIGHT):
        assert_equal(result[(..., *part)], plain(part, *controlled(prompts, link(part)), *canvas))


BUDGET = torch.cat([torch.ones(1, HEIGHT, 16), torch.full((1, HEIGHT, 16), 1 / 3)], dim=2)  # 4 steps and 2 of 4
MIXED = ((LEFT, (0, 1, 2, 3, 4)), (RIGHT, (0, 2, 4)))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_regions_at_different_levels_share_calls_without_seeing_each_other(
    tiled, plain, patcher, prompts, canvas, kind, sampler
):
    if kind == "flow":
        canvas = [t.repeat(1, 4, 1, 1) for t in canvas]
    model = {"model": patcher(kind), "sampler": sampler}
    result, report = tiled(prompts(1), prompts(2), *canvas, budget=BUDGET, **model)
    assert report["steps_per_region"] == [[4, 2]] and report["batch_sizes"] == {"1": 2, "2": 2}
    for part, levels in MIXED:
        assert_equal(result[(..., *part)], plain(part, prompts(1), prompts(2), *canvas, levels=levels, **model))


def test_ranges_of_conditions_hold_at_each_regions_own_level(tiled, plain, prompts, canvas):
    early = with_values(prompts(1), start_percent=0.0, end_percent=0.4)
    late = with_values(prompts(3), start_percent=0.4, end_percent=1.0)
    result, _ = tiled([*early, *late], prompts(2), *canvas, budget=BUDGET)
    for part, levels in MIXED:
        assert_equal(result[(..., *part)], plain(part, [*early, *late], prompts(2), *canvas, levels=levels))


@pytest.mark.parametrize("percents", [(0.0, 0.4), (0.4, 1.0)])
def test_ranges_of_controlnets_hold_at_each_regions_own_level(tiled, plain, prompts, canvas, control, percents):
    result, _ = tiled(*controlled(prompts, control(hint(1.0), 1.0, percents)), *canvas, budget=BUDGET)
    for part, levels in MIXED:
        positive, negative = controlled(prompts, control(crop_hint(hint(1.0), part), 1.0, percents))
        assert_equal(result[(..., *part)], plain(part, positive, negative, *canvas, levels=levels))


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_a_noise_mask_keeps_its_part_of_each_region(patcher, region, sample, prompts, canvas, sampler):
    import comfy.samplers

    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., 5:20] = 1
    whole = region.RegionSampler(region.RegionOptions(512, 0, region.MergeMode.CONSENSUS, 0, sampler))
    arguments = prompts(1), prompts(2), *canvas
    expected = sample(patcher("eps"), comfy.samplers.sampler_object(sampler), *arguments, mask=mask, denoise=0.6)
    assert_equal(sample(patcher("eps"), whole, *arguments, mask=mask, denoise=0.6), expected)
    tiles = region.RegionSampler(region.RegionOptions(128, 32, region.MergeMode.CONSENSUS, 2, sampler))
    result = sample(patcher("eps"), tiles, *arguments, mask=mask, denoise=0.6)
    torch.testing.assert_close(result[..., 20:], canvas[0][..., 20:], atol=1e-5, rtol=0)


def test_a_batch_is_its_images_each_with_its_own_values(tiled, plain, prompts, canvas, control):
    latent, noise = (torch.cat([t, t.flip(-1)]) for t in canvas)
    text = torch.cat([prompts(1)[0][0], prompts(3)[0][0]])
    picture = torch.cat([hint(1.0), hint().flip(-1)])
    positive, negative = controlled(prompts, control(picture))
    positive[0][0] = text
    result, report = tiled(positive, negative, latent, noise, rows=3, denoise=0.6)
    assert report["images"] == 2 and report["batch_sizes"] == {"1": 4, "3": 4}
    for image in range(2):
        for part in (LEFT, RIGHT):
            own = controlled(prompts, control(crop_hint(picture[image : image + 1], part)))
            own[0][0][0] = text[image : image + 1]
            expected = plain(part, *own, latent[image : image + 1], noise[image : image + 1], denoise=0.6)
            assert_equal(result[(slice(image, image + 1), ..., *part)], expected)


def test_concat_latents_are_cropped(tiled, plain, prompts, canvas, concat_patcher):
    generator = torch.Generator().manual_seed(31)
    extra = torch.randn(1, 4, HEIGHT, WIDTH, generator=generator)

    def prompted(part=None):
        values = extra if part is None else extra[(..., *part)]
        return [with_values(prompts(seed), noise_concat=values) for seed in (1, 2)]

    result, _ = tiled(*prompted(), *canvas, model=concat_patcher)
    for part in (LEFT, RIGHT):
        assert_equal(result[(..., *part)], plain(part, *prompted(part), *canvas, model=concat_patcher))


def test_gligen_is_refused_by_name(conditions):
    entry = {"model_conds": {}, "uuid": None, "gligen": ("position", None, [])}
    with pytest.raises(ValueError, match="negative conditioning holds GLIGEN"):
        conditions.CanvasConditions({"positive": None, "negative": [entry]}, (1, 4, 16, 32), torch.device("cpu"))


def test_text_of_another_width_than_the_network_reads_is_refused_before_the_first_call(tiled, prompts, canvas):
    foreign = [[torch.zeros(1, 77, 3), {}]]  # such as SD 1.5's prompt (768) for SD 2.1 (1024)
    with pytest.raises(
        ValueError, match=r"positive conditioning has text of 3 channels: expected [0-9]+, as the MODEL reads"
    ):
        tiled(foreign, prompts(2), *canvas)


def test_a_concat_latent_of_another_size_is_refused_by_name(tiled, prompts, canvas, concat_patcher):
    wrong = with_values(prompts(1), noise_concat=torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"'c_concat' of shape \(1, 4, 8, 8\)"):
        tiled(wrong, wrong, *canvas, model=concat_patcher)


def test_reference_latents_are_refused_by_name(conditions):
    import comfy.conds

    reference = comfy.conds.CONDList([torch.zeros(1, 4, HEIGHT, WIDTH)])
    entry = {"model_conds": {"ref_latents": reference}, "uuid": None}
    with pytest.raises(ValueError, match="'ref_latents'"):
        conditions.CanvasConditions({"positive": [entry]}, (1, 4, HEIGHT, WIDTH), torch.device("cpu"))


def test_scheduled_weight_hooks_are_refused_where_levels_differ(comfy, conditions):
    from adaptivesr.imaging.tiles import Region
    from comfy import hooks

    rows = [comfy.module("sampling.adaptive.types").Row(i, 0, Region(0, 16 * i, 16, 16)) for i in range(2)]
    group = hooks.create_hook_lora({}, 1.0, 1.0)
    frames = hooks.HookKeyframeGroup()
    frames.add(hooks.HookKeyframe(1.0, start_percent=0.0))
    frames.add(hooks.HookKeyframe(0.0, start_percent=0.5))
    group.set_keyframes_on_hooks(frames)
    entry = {"model_conds": {}, "uuid": None, "hooks": group}
    prepared = conditions.CanvasConditions({"positive": [entry]}, (1, 4, 16, 32), torch.device("cpu"))
    assert prepared.crop(rows, [3.0, 3.0])["positive"]
    with pytest.raises(ValueError, match="keyframes"):
        prepared.crop(rows, [3.0, 1.0])
