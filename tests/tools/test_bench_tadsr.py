"""The ablation's bookkeeping: which runs are kept, that variants see the same data, and what the tables say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.tools.bench import tadsr
from adaptivesr.tools.bench.parts import tadsr_runs, tadsr_tables
from adaptivesr.tools.bench.parts.tadsr_runs import VARIANTS, Ablation, StudentRun, Trainings, kept_rows, kept_run, slug
from adaptivesr.tools.bench.parts.tadsr_tables import (
    MethodResult,
    ablation_table,
    better_by,
    paired,
    paired_table,
    spread,
)
from adaptivesr.tools.bench.parts.texture import BETTER, measure_texture
from adaptivesr.tools.embedded_weights.degrade_mild import CLEAN, degrade
from adaptivesr.tools.embedded_weights.pool import VARIANTS as VERSIONS
from adaptivesr.tools.embedded_weights.pool import Pool

pytestmark = pytest.mark.slow

SMALL = PixelDenoiserConfig(channels=8, blocks=2, refine_channels=8, feature_channels=4, time_channels=8, num_steps=6)
PART = "photos, clean"


@pytest.fixture
def pool() -> Pool:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 96, 96, 3)).astype(np.uint8)
    return Pool(images, np.stack([np.stack([degrade(image, CLEAN, rng)] * VERSIONS) for image in images]))


@pytest.fixture
def small_teacher(monkeypatch):
    """Every load gives the same small network, whose weights are not zero."""
    network = PixelDenoiser(SMALL)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)

    def load(path):
        copy = PixelDenoiser(SMALL)
        copy.load_state_dict(network.state_dict())
        return copy

    monkeypatch.setattr(tadsr_runs, "load_denoiser", load)
    return network


@pytest.fixture
def ablation() -> Ablation:
    small = Ablation()
    return replace(
        small, steps=3, patch=8, distillation=replace(small.distillation, batch=2, teacher_steps=2, warmup=1)
    )


def rows(value, **others):
    """A picture's measures, psnr as given."""
    base = dict.fromkeys(BETTER, 0.5) | {"psnr": value} | others
    return {PART: {"a.png": base, "b.png": base | {"psnr": value + 1}}}


def test_every_setting_changes_the_key_of_a_run(ablation):
    name = "+ HSD + GAN"
    first = ablation.key(name, 1, "teacher", "1 40")
    others = [
        ablation.key(name, 2, "teacher", "1 40"),
        ablation.key("+ HSD", 1, "teacher", "1 40"),
        ablation.key(name, 1, "another", "1 40"),
        ablation.key(name, 1, "teacher", "1 80"),
        replace(ablation, steps=4).key(name, 1, "teacher", "1 40"),
        replace(ablation, patch=16).key(name, 1, "teacher", "1 40"),
        replace(ablation, distillation=replace(ablation.distillation, lr=1e-3)).key(name, 1, "teacher", "1 40"),
    ]
    assert len({first, *others}) == 8
    assert ablation.key(name, 1, "teacher", "1 40") == first


def test_the_variants_add_one_part_each(ablation):
    settings = [ablation.settings(name, 1) for name in VARIANTS]
    assert [bool(s.score_part) for s in settings] == [False, True, True, True, True]
    assert [bool(s.adversarial_part) for s in settings] == [False, False, False, True, True]
    assert len({slug(name) for name in VARIANTS}) == len(VARIANTS)
    assert all(replace(s, score="none", adversarial="none") == settings[0] for s in settings)


def test_a_finished_run_is_used_again_only_with_the_same_key(tmp_path):
    made = []

    def train(name, seed):
        made.append((name, seed))
        return StudentRun({"w": torch.full((2,), float(len(made)))}, 1.5)

    first = kept_run(tmp_path, "+ HSD", 1, "key", train)
    again = kept_run(tmp_path, "+ HSD", 1, "key", train)
    assert made == [("+ HSD", 1)] and torch.equal(first.weights["w"], again.weights["w"]) and again.seconds == 1.5
    assert float(kept_run(tmp_path, "+ HSD", 1, "other", train).weights["w"][0]) == 2
    kept_run(tmp_path, "+ HSD", 2, "other", train)
    assert len(made) == 3


def test_measures_are_used_again_only_with_the_same_key(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return rows(25.0)

    for key, count in (("a", 1), ("a", 1), ("b", 2)):
        assert kept_rows(tmp_path / "x.json", key, measure) == rows(25.0)
        assert len(calls) == count


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs_start_from_the_teacher_and_repeat_themselves(variant, ablation, pool, small_teacher):
    runs = [Trainings(ablation, pool, torch.device("cpu")).train(variant, 1) for _ in range(2)]
    assert runs[0].weights.keys() == small_teacher.state_dict().keys()
    assert all(torch.equal(value, runs[1].weights[name]) for name, value in runs[0].weights.items())
    moved = [(runs[0].weights[name] - value.detach()).abs().max() for name, value in small_teacher.named_parameters()]
    assert 0 < float(max(moved)) < 0.01  # three steps of 2e-4


def test_a_run_does_not_depend_on_the_runs_before_it(ablation, pool, small_teacher):
    trainings = Trainings(ablation, pool, torch.device("cpu"))
    trainings.train("vanilla", 2)
    trainings.train("+ SDS", 1)
    after = trainings.train("vanilla", 1)
    alone = Trainings(ablation, pool, torch.device("cpu")).train("vanilla", 1)
    assert all(torch.equal(value, alone.weights[name]) for name, value in after.weights.items())
    assert after.seconds > 0


def test_a_given_pool_is_only_read_and_our_own_is_made_beside_the_runs(ablation, pool, tmp_path, monkeypatch):
    given = tmp_path / "given"
    given.mkdir()
    np.save(given / "hr.npy", pool.hr)
    np.save(given / "lr.npy", pool.lr)
    (given / "done.txt").write_text("9 3")
    made = []
    monkeypatch.setattr(tadsr, "build_pool", lambda folder, seed, count: made.append((folder, seed, count)))
    small = replace(ablation, pool_images=40)  # another number than the folder holds
    opened, what = tadsr.open_pool(given, tmp_path, small)
    assert what == "9 3" and made == [] and np.array_equal(opened.hr, pool.hr)
    with pytest.raises(FileNotFoundError):
        tadsr.open_pool(None, tmp_path, small)
    assert made == [(tmp_path / "pool-1-40", 1, 40)]


def test_better_follows_each_measures_direction():
    assert better_by("psnr", 26, 25) > 0 and better_by("nlpd", 0.3, 0.2) < 0
    assert better_by("ger", 0.9, 0.5) > 0 and better_by("ger", 1.6, 0.9) < 0
    assert better_by("bias", -1, -3) > 0 and better_by("bias", 4, -3) < 0


def test_tables_hold_means_spreads_and_paired_differences():
    results = {
        "vanilla": MethodResult((rows(25.0), rows(27.0)), 12.0),
        "+ HSD": MethodResult((rows(25.5), rows(27.7)), 20.0),
        "student untrained, 1 step": MethodResult((rows(24.0),)),
    }
    table = ablation_table(results, PART)
    assert "| vanilla | 26.50 ± 1.41 | " in table[2] and table[2].endswith("| 12 |")
    assert "| student untrained, 1 step | 24.50 | " in table[4] and table[4].endswith("|  |")
    differences, wins = paired(results, "+ HSD", "vanilla", PART)["psnr"]
    assert differences == pytest.approx([0.5, 0.7]) and wins == 2
    text = "\n".join(paired_table(results, PART))
    assert "| + HSD against vanilla | +0.60 ± 0.14 (2/2) |" in text
    assert "| vanilla against student untrained, 1 step | +2.00 ± 1.41 (2/2) |" in text
    assert "GAN" not in text  # nothing is said of what was not run
    assert all(variant in VARIANTS for variant, _ in tadsr_tables.STEPS)


def test_a_single_seed_has_no_spread():
    assert spread([1.234], ".2f") == "1.23"


def test_texture_measures_of_the_truth_itself_are_ideal_and_blur_is_seen():
    truth = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    same = measure_texture(truth, truth)
    assert set(same) == set(BETTER)
    assert same["ger"] == 1 and same["spectrum"] == 0 and same["ssim"] == pytest.approx(1)
    soft = measure_texture(torch.nn.functional.avg_pool2d(truth, 3, 1, 1), truth)
    assert soft["ger"] < 0.5 and soft["spectrum"] > 3 and soft["bias"] < -3


def test_metrics_without_weights_are_left_out(monkeypatch):
    from adaptivesr.imaging.metrics.named import NamedMetrics
    from adaptivesr.tools.bench.parts import texture

    class Doubt(torch.nn.Module):
        metric_mode = "FR"

        def forward(self, image, truth):
            return (image - truth).abs().mean()

    monkeypatch.setattr(texture, "metrics_at_hand", lambda names: NamedMetrics({"lpips": Doubt()}, ("musiq", "piqe")))
    flat = torch.full((1, 3, 64, 64), 0.5)
    truth = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    values = measure_texture(flat, truth, ("lpips", "musiq"))
    assert 0.2 < values["lpips"] < 0.3 and "musiq" not in values and "piqe" not in values
