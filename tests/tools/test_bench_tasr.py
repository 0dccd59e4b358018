"""What `bench tasr` makes of its numbers."""

import torch
from adaptivesr.tools.bench import tasr
from adaptivesr.tools.bench.parts import middles


def test_differences_are_paired_and_spread_over_seeds():
    plain, values = [20.0, 30.0, 21.0, 31.0], [21.0, 31.0, 24.0, 34.0]  # two pictures, two seeds
    assert tasr.spread(values, plain, 2) == "+2.000 ± 1.414"
    assert tasr.spread(values[:2], plain[:2], 1) == "+1.000"


def test_a_table_has_the_means_of_each_kind():
    rows = {
        "plain": {
            "psnr": [20.0, 22.0],
            "ssim": [0.5, 0.7],
            "ger": [0.2, 0.4],
            "spectrum": [3.0, 5.0],
            "piqe": [10.0, 20.0],
        }
    }
    assert middles.table(rows, "variant")[2] == "| plain | 21.00 | 0.600 | 0.30 | 4.00 | 15.0 |"


def test_crops_are_the_middles_of_held_out_photographs_and_belong_together():
    options = tasr.parser().parse_args(["--photos", "2", "--side", "64", "--degradation", "clean"])
    for low, truth in middles.crops(options):
        assert low.shape == (1, 3, 16, 16) and truth.shape == (1, 3, 64, 64)
        means = torch.nn.functional.avg_pool2d(truth, 4)
        assert float((low - means).abs().mean()) < 0.05, "the same place"


def test_variants_are_those_that_training_knows():
    from dataclasses import fields

    from adaptivesr.models.time_aware_adapter_config import DESIGNS
    from adaptivesr.training.tasr.config import TasrConfig

    known = {field.name for field in fields(TasrConfig)} | {"design"}
    for changes in tasr.VARIANTS.values():
        assert set(changes) <= known
        TasrConfig(**{key: value for key, value in changes.items() if key != "design"})
    assert {changes.get("design", "lite") for changes in tasr.VARIANTS.values()} == set(DESIGNS)
