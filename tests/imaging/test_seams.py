import pytest
import torch
from adaptivesr.imaging.tiles import Region, grid
from adaptivesr.sampling.adaptive.choices import MergeMode
from adaptivesr.sampling.adaptive.policy import BudgetMap, FixedSchedule
from adaptivesr.tools.bench import seams
from adaptivesr.tools.bench.parts.seam_ratio import seam_ratio

HALVES = grid(16, 32, 16, 0)


def test_a_step_between_regions_counts_in_full_and_one_inside_does_not():
    ramp = torch.arange(32.0).expand(1, 1, 16, 32) + torch.arange(16.0)[:, None]
    assert seam_ratio(ramp, HALVES) == pytest.approx(1.0)
    stepped = ramp.clone()
    stepped[..., 16:] += 3
    assert seam_ratio(stepped, HALVES) == pytest.approx(4.0)
    inside = ramp.clone()
    inside[..., 10:] += 3
    assert seam_ratio(inside, HALVES) < 1.0


def test_both_directions_and_every_image_count_alike():
    picture = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    turned = [Region(r.x, r.y, r.width, r.height) for r in HALVES]
    assert seam_ratio(picture, HALVES) == pytest.approx(seam_ratio(picture.mT, turned))
    assert seam_ratio(picture, HALVES) == pytest.approx(seam_ratio(picture.flip(0), HALVES))


def test_overlapping_regions_have_a_border_where_the_nearest_centre_changes():
    regions = [Region(0, 0, 8, 20), Region(0, 12, 8, 20)]
    ramp = torch.arange(32.0).expand(1, 1, 8, 32) + torch.arange(8.0)[:, None]
    for column, seen in ((12, True), (16, True), (20, True), (14, False), (5, False)):
        stepped = ramp.clone()
        stepped[..., column:] += 3
        assert (seam_ratio(stepped, regions) > 1.5) is seen


def test_pictures_without_borders_or_gradient_are_refused():
    with pytest.raises(ValueError, match="regions that meet"):
        seam_ratio(torch.rand(1, 1, 8, 8), [Region(0, 0, 8, 8)])
    with pytest.raises(ValueError, match="some gradient"):
        seam_ratio(torch.ones(1, 1, 16, 32), HALVES)


@pytest.mark.parametrize("name", ["gradient", "texture"])
def test_merging_predictions_leaves_no_seam_of_a_network_that_sees_only_its_tile(name):
    picture = seams.pictures()[name]
    assert seams.excess(picture, MergeMode.FINAL, FixedSchedule(), overlap=0) > 0.1
    final = seams.excess(picture, MergeMode.FINAL, FixedSchedule())
    for merge in (MergeMode.AGGREGATE, MergeMode.CONSENSUS):
        merged = seams.excess(picture, merge, FixedSchedule())
        assert abs(merged) <= 0.02
        assert abs(merged) < abs(final)


def test_consensus_leaves_no_seam_between_regions_of_different_steps():
    budget = BudgetMap((tuple(4 + i % 9 for i in range(25)),))
    assert abs(seams.excess(seams.pictures()["gradient"], MergeMode.CONSENSUS, budget)) <= 0.02
