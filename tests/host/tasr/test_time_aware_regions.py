"""Time-aware controls in the region sampler: each region has its own part of the LR latent and its own timestep."""

import pytest
import torch

HEIGHT, WIDTH = 16, 32
LEFT, RIGHT = (slice(0, 16), slice(0, 16)), (slice(0, 16), slice(16, 32))


@pytest.fixture(scope="session")
def region(comfy):
    return comfy.module("host.regions.sampler")


@pytest.fixture(scope="session")
def image():
    return torch.rand(1, 8 * HEIGHT, 8 * WIDTH, 3, generator=torch.Generator().manual_seed(31))


def crop(image, part):
    return image[:, part[0].start * 8 : part[0].stop * 8, part[1].start * 8 : part[1].stop * 8]


def close(actual, expected):
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.fixture(scope="session")
def trained(parts):
    return parts.adapters()


@pytest.fixture
def controls(parts, trained):
    """The control by name: plain, by a schedule, gated, both."""

    def get(kind):
        if kind == "plain":
            return parts.control
        preset = "constant" if kind == "gated" else "off_late"
        return parts.time_aware(parts.control, preset, adapters=trained if kind in ("gated", "both") else None)

    return get


KINDS = ["plain", "schedule", "gated", "both"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("merge", ["aggregate", "consensus", "final"])
def test_one_region_is_the_full_frame(patcher, apply, sample, region, controls, image, kind, merge):
    conditioning = apply(controls(kind), crop(image, LEFT))
    options = region.RegionOptions(128, 0, region.MergeMode(merge), 2, "euler", None)
    close(sample(patcher(), conditioning, sampler=region.RegionSampler(options)), sample(patcher(), conditioning))


def run(patcher, sample, region, conditioning, *, budget=None, rows=2):
    """Two tiles side by side, both in one call; regions keep their own noise."""
    chosen = region.RegionSampler(region.RegionOptions(128, 0, region.MergeMode.FINAL, rows, "euler", budget))
    return sample(patcher(), conditioning, sampler=chosen, size=(HEIGHT, WIDTH))


@pytest.fixture
def alone(comfy, patcher):
    """One crop of the canvas by the host's own sampler."""
    import comfy.samplers

    def get(part, conditioning, steps=(0, 1, 2, 3, 4)):
        model = patcher()
        noise = torch.randn(1, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(7))[(..., *part)]
        sigmas = comfy.samplers.KSampler(model, 4, noise.device, "euler", "normal", 1.0).sigmas[list(steps)]
        with torch.inference_mode():
            return comfy.samplers.sample(
                model, noise, *conditioning, 3.0, noise.device, comfy.samplers.sampler_object("euler"), sigmas,
                model.model_options, latent_image=torch.zeros_like(noise), disable_pbar=True, seed=7,
            )  # fmt: skip

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_regions_see_their_part_of_the_latent(patcher, apply, sample, region, controls, image, alone, kind):
    result = run(patcher, sample, region, apply(controls(kind), image))
    for part in (LEFT, RIGHT):
        close(result[(..., *part)], alone(part, apply(controls(kind), crop(image, part))))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", ["schedule", "gated", "both"])
def test_regions_at_their_own_timesteps(patcher, apply, sample, region, controls, image, alone, kind, rows):
    """The right half takes two of the four steps, so that calls hold rows at different levels."""
    budget = torch.cat([torch.ones(1, HEIGHT, 16), torch.full((1, HEIGHT, 16), 1 / 3)], dim=2)
    result = run(patcher, sample, region, apply(controls(kind), image), budget=budget, rows=rows)
    for part, steps in ((LEFT, (0, 1, 2, 3, 4)), (RIGHT, (0, 2, 4))):
        close(result[(..., *part)], alone(part, apply(controls(kind), crop(image, part)), steps))


def test_a_call_is_skipped_only_when_every_region_is_silent(patcher, apply, sample, region, controls, image):
    made = controls("schedule")
    run(patcher, sample, region, apply(made, image))
    # timesteps 999, 666, 333 and 0: both regions fall silent in the last call
    assert (made.record.summary()["calls"], made.record.summary()["skipped"]) == (3, 1)
    budget = torch.cat([torch.ones(1, HEIGHT, 16), torch.full((1, HEIGHT, 16), 1 / 3)], dim=2)
    run(patcher, sample, region, apply(made, image), budget=budget)
    summary = made.record.summary()
    assert summary["calls"] + summary["skipped"] == 4 and summary["skipped"] == 1


@pytest.mark.parametrize("kind", ["schedule", "gated"])
def test_start_and_end_are_judged_by_region(patcher, apply, sample, region, controls, image, alone, kind):
    budget = torch.cat([torch.ones(1, HEIGHT, 16), torch.full((1, HEIGHT, 16), 1 / 3)], dim=2)
    percents = {"start": 0.2, "end": 0.6}
    result = run(patcher, sample, region, apply(controls(kind), image, **percents), budget=budget)
    for part, steps in ((LEFT, (0, 1, 2, 3, 4)), (RIGHT, (0, 2, 4))):
        expected = alone(part, apply(controls(kind), crop(image, part), **percents), steps)
        close(result[(..., *part)], expected)


def test_a_chain_of_two_is_cropped_link_by_link(patcher, apply, sample, region, controls, ordinary, image, alone):
    hint = torch.rand(1, 8 * HEIGHT, 8 * WIDTH, 3, generator=torch.Generator().manual_seed(41))

    def chain(part=None):
        first = apply(ordinary, hint if part is None else crop(hint, part), 0.5, encoder=None)
        second = image if part is None else crop(image, part)
        return apply(controls("gated"), second, positive=first[0], negative=first[1])

    result = run(patcher, sample, region, chain())
    for part in (LEFT, RIGHT):
        close(result[(..., *part)], alone(part, chain(part)))


def test_noise_levels_that_are_known_are_not_read_from_the_device(comfy, parts, patcher):
    """Whoever reads `t` waits for the device: in the region sampler it is a tensor without values here, and nothing asks for them."""
    adapter = comfy.module("host.control.adapter")
    control = parts.time_aware(parts.control, "off_late")
    control.timestep_range = (1000.0, 0.0)
    control.begin(patcher().get_model_object("model_sampling"))
    around = control.around(parts.control, None, [14.0, 0.02])
    t = torch.empty(4, device="meta")  # two conditions of two rows
    with torch.inference_mode():
        levels = around._levels(t)
    torch.testing.assert_close(levels, torch.tensor([14.0, 0.02, 14.0, 0.02]))
    times = adapter.timesteps_of(around._sampling, levels)
    assert times.device.type == "cpu" and times[0] > 900 > 100 > times[1]


def test_the_levels_of_a_model_are_copied_to_the_cpu_and_stay_with_it(comfy, patcher):
    adapter = comfy.module("host.control.adapter")
    sampling = patcher().get_model_object("model_sampling")
    before = dict(sampling.named_buffers())
    twin = adapter.on_cpu(sampling)
    assert type(twin) is type(sampling) and twin is not sampling
    assert all(sampling.get_buffer(name) is level for name, level in before.items())
    assert torch.equal(twin.timestep(twin.sigmas[[3, 500]]), torch.tensor([3, 500]))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_count_in_what_a_region_needs(comfy, parts, region, controls, apply, image, kind):
    controls_of = comfy.module("host.regions.controls")
    cell = comfy.module("imaging.tiles").Region(0, 0, 16, 16)
    entries = [dict(values) for _, values in apply(controls(kind), crop(image, LEFT))[0]]
    found = controls_of.adapter_bytes({"positive": entries, "negative": [{}], "other": None}, cell, 2)
    assert (found > 0) == (kind in ("gated", "both"))
    larger = comfy.module("imaging.tiles").Region(0, 0, 32, 16)
    assert controls_of.adapter_bytes({"positive": entries}, larger, 2) == 2 * found
