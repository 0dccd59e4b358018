"""The crisp recipe's pairs: an enlarger's pictures in the place of the truth, made once each."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from adaptivesr.tools.embedded_weights.config import OneStepConfig, crisp_config
from adaptivesr.tools.embedded_weights.crisp import build_crisp_pool, enlarged, version_of
from adaptivesr.tools.embedded_weights.one_step import foot
from adaptivesr.tools.embedded_weights.pool import VARIANTS, Pool


def nearest(picture: torch.Tensor) -> torch.Tensor:
    return F.interpolate(picture, scale_factor=4, mode="nearest")


@pytest.fixture
def sources() -> list[Pool]:
    rng = np.random.default_rng(0)
    low = [rng.integers(0, 256, (count, VARIANTS, 80, 80, 3), np.uint8) for count in (3, 2)]
    return [Pool(np.zeros((len(lr), 320, 320, 3), np.uint8), lr) for lr in low]


def test_the_enlargers_pictures_stand_in_the_place_of_the_truth(tmp_path, sources):
    build_crisp_pool(tmp_path, sources, nearest, 0.4)
    pool = Pool.open(tmp_path, clean_share=1.0)
    shown = [(source, index) for source in sources for index in range(len(source.hr))]
    for number, (source, index) in enumerate(shown):
        small = source.lr[index, version_of(number, 0.4)]
        assert np.array_equal(pool.lr[number, 0], small)
        assert np.array_equal(pool.hr[number], small.repeat(4, 0).repeat(4, 1)), "8-bit levels come back exactly"
    large, small = pool.batch(torch.Generator().manual_seed(0), 2, 16)
    assert torch.equal(large, nearest(small)), "crops of both sides are the same place"


def test_a_stopped_build_goes_on_where_it_was(tmp_path, sources):
    calls = []

    def stops(picture: torch.Tensor) -> torch.Tensor:
        calls.append(picture)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return nearest(picture)

    with pytest.raises(KeyboardInterrupt):
        build_crisp_pool(tmp_path, sources, stops, 0.4)
    build_crisp_pool(tmp_path, sources, stops, 0.4)
    assert len(calls) == 3 + 3, "two were done, the third again, two more"
    build_crisp_pool(tmp_path, sources, stops, 0.4)
    assert len(calls) == 6
    assert (Pool.open(tmp_path).hr.reshape(5, -1).max(1) > 0).all()


def test_versions_are_clean_in_this_share():
    found = [version_of(number, 0.4) for number in range(100)]
    assert found.count(0) == 40
    assert set(found) == set(range(VARIANTS))


def test_what_leaves_the_range_is_cut():
    small = np.full((2, 2, 3), 200, np.uint8)
    assert enlarged(small, lambda x: nearest(x) * 2).max() == 255
    assert enlarged(small, lambda x: nearest(x) - 1).max() == 0


def test_imitation_has_no_soft_end():
    config = crisp_config()
    assert foot(config.phase.steps, config) == config.eps < foot(config.phase.steps, OneStepConfig())
