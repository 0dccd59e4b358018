import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptivesr.models.pixel_autoencoder import PixelAutoencoder
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.tools.embedded_weights import recipe as embedded
from adaptivesr.tools.embedded_weights.config import PhaseConfig, RecipeConfig
from adaptivesr.tools.embedded_weights.degrade_mild import CLEAN, Degradation, degrade, random_degradation
from adaptivesr.tools.embedded_weights.loop import PHASES
from adaptivesr.tools.embedded_weights.objectives import energy_loss, regression_loss, student_loss, teacher_loss
from adaptivesr.tools.embedded_weights.pool import VARIANTS, Pool
from adaptivesr.training.ema import Ema
from adaptivesr.training.optim import learning_rate, orthogonalised
from adaptivesr.training.synthetic import synthetic_image
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

PHASE = PhaseConfig(steps=4, batch=2, patch=8, lr=2e-3, warmup=1)
RECIPE = RecipeConfig(
    network=PixelDenoiserConfig(channels=8, blocks=1, refine_channels=8, feature_channels=4, time_channels=8, num_steps=6),
    regression=PHASE,
    teacher=PHASE,
    student=PHASE,
    polish=PHASE,
    chain=PHASE,
    texture=PHASE,
    distill_batch=1,
    teacher_chain=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Smooth random pictures with their reductions."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (3, 3, 12, 12)))
    hr = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear").permute(0, 2, 3, 1)
    images = hr.numpy().astype(np.uint8)
    low = np.stack([np.stack([degrade(image, CLEAN, rng)] * VARIANTS) for image in images])
    return Pool(images, low)


def states_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("phase", PHASES)
def test_two_and_two_steps_are_four_steps_bit_for_bit(phase: str, pool: Pool, tmp_path: Path):
    start = embedded.network(RECIPE).state_dict()
    for name in ("embed_latent.weight", "to_coarse.weight", "refine_out.weight"):
        start[name] = 0.05 * torch.randn(start[name].shape, generator=torch.Generator().manual_seed(3))
    whole = embedded.run_phase(RECIPE, phase, pool, tmp_path / "whole", start, teacher=start)
    embedded.run_phase(RECIPE, phase, pool, tmp_path / "parts", start, teacher=start, until=2, save_every=2)
    parts = embedded.run_phase(RECIPE, phase, pool, tmp_path / "parts", start, teacher=start)
    assert states_equal(whole, parts)
    assert not states_equal(whole, start)


def test_the_regression_leaves_the_noise_input_silent(pool: Pool, tmp_path: Path):
    state = embedded.run_phase(RECIPE, "regression", pool, tmp_path, None)
    assert float(state["embed_latent.weight"].abs().max()) == 0


def test_a_checkpoint_of_another_recipe_is_refused(pool: Pool, tmp_path: Path):
    embedded.run_phase(RECIPE, "regression", pool, tmp_path, None)
    other = replace(RECIPE, seed=2)
    with pytest.raises(ValueError, match="another recipe"):
        embedded.run_phase(other, "regression", pool, tmp_path, None)
    later = replace(RECIPE, student=replace(PHASE, lr=1e-5))  # a later phase may change
    embedded.run_phase(later, "regression", pool, tmp_path, None)


def test_the_regression_overfits_one_batch(pool: Pool):
    state = embedded.phase_state(replace(RECIPE, regression=replace(PHASE, lr=1e-2)), "regression")
    hr, lr = pool.batch(torch.Generator().manual_seed(0), 2, 8)
    loss_fn = regression_loss(embedded.network(RECIPE))
    first = loss_fn(hr, lr, torch.Generator())[1]["loss"]
    assert isinstance(state.model, PixelDenoiser)
    loss_fn = regression_loss(state.model)
    for _ in range(60):
        loss, _ = loss_fn(hr, lr, torch.Generator())
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in state.optimizers:
            optimizer.step()
    assert loss_fn(hr, lr, torch.Generator())[1]["loss"] < 0.5 * first


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "texture"])
def test_gradients_reach_every_parameter_that_the_phase_uses(phase: str, pool: Pool):
    model, teacher = embedded.network(RECIPE), embedded.network(RECIPE).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    losses = {"regression": regression_loss(model), "teacher": teacher_loss(model, RECIPE), "polish": teacher_loss(model, RECIPE), "chain": teacher_loss(model, RECIPE, between=True), "student": student_loss(model, teacher, RECIPE)}  # fmt: skip
    hr, lr = pool.batch(generator, 2, 8)
    losses[phase](hr, lr, generator)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all())
        unused = phase == "regression" and name == "embed_latent.weight"
        assert unused or float(parameter.grad.abs().max()) > 1e-9, name
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_texture_phase_keeps_the_noise_input_and_the_teacher_and_moves_the_rest(pool: Pool, tmp_path: Path):
    start, teacher = (embedded.network(RECIPE).state_dict() for _ in range(2))
    for state, seed in ((start, 3), (teacher, 4)):
        generator = torch.Generator().manual_seed(seed)
        for name, value in state.items():
            if value.ndim > 1:
                state[name] = value + 0.05 * torch.randn(value.shape, generator=generator)
    kept = {name: value.clone() for name, value in teacher.items()}
    trained = embedded.run_phase(RECIPE, "texture", pool, tmp_path, start, teacher=teacher)
    assert torch.equal(trained["embed_latent.weight"], start["embed_latent.weight"])
    assert states_equal(teacher, kept)
    still = [name for name, value in trained.items() if value.ndim > 1 and torch.equal(value, start[name])]
    assert still == ["embed_latent.weight"]
    with pytest.raises(ValueError, match="texture phase needs the teacher"):
        embedded.run_phase(RECIPE, "texture", pool, tmp_path / "b", start)


def test_crops_of_the_pool_fit_together(pool: Pool):
    hr, lr = pool.batch(torch.Generator().manual_seed(1), 6, 8)
    reduced = torch.nn.functional.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    assert hr.shape == (6, 3, 32, 32) and lr.shape == (6, 3, 8, 8)
    assert float((reduced - lr)[..., 2:-2, 2:-2].abs().max()) < 0.03


def test_generated_images_depend_on_seed_and_index_only():
    first = synthetic_image(5, 3, size=64)
    synthetic_image(5, 4, size=64)
    assert np.array_equal(first, synthetic_image(5, 3, size=64))
    assert not np.array_equal(first, synthetic_image(6, 3, size=64))
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8 and first.std() > 5


def test_degradations_reduce_by_four_and_worse_ones_are_worse():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 48, 3)).astype(np.uint8)
    clean = degrade(image, CLEAN, rng).astype(float)
    assert clean.shape == (16, 12, 3)
    errors = [
        np.abs(degrade(image, Degradation(jpeg_quality=q), rng).astype(float) - clean).mean() for q in (95, 75, 40)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]
    assert random_degradation(np.random.default_rng(1)) == random_degradation(np.random.default_rng(1))
    with pytest.raises(ValueError, match="multiples of 4"):
        degrade(image[:63], CLEAN, rng)


def test_the_energy_loss_is_zero_at_equal_sharpness_and_sees_blur():
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    assert float(energy_loss(image, image)) == 0
    assert float(energy_loss(soft, image)) > 1


def test_newton_schulz_makes_singular_values_about_one():
    matrix = torch.randn(16, 72, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    torch.testing.assert_close(orthogonalised(matrix.T), orthogonalised(matrix).T)


def test_the_average_forgets_its_start_and_follows_a_constant():
    module = torch.nn.Linear(2, 2, bias=False)
    ema = Ema(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(3.0)
    for step in range(1, 200):
        ema.update(step)
    torch.testing.assert_close(ema.values["weight"], torch.full((2, 2), 3.0))


def test_the_learning_rate_warms_up_and_ends_near_zero():
    rates = [learning_rate(1.0, step, warmup=10, cosine_steps=100) for step in range(100)]
    assert rates[0] < 0.2 and max(rates) > 0.9 and rates[-1] < 0.02
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_exports_are_half_precision_with_an_exact_schedule_and_say_what_they_are(tmp_path: Path):
    state = embedded.network(RECIPE).state_dict()
    path = tmp_path / "student.safetensors"
    embedded.export(state, path, RECIPE, "student")
    stored = load_file(path)
    assert stored["blocks.0.conv1.weight"].dtype == torch.float16
    assert torch.equal(stored["sqrt_etas"], state["sqrt_etas"]) and float(stored["one_step"]) == 1
    assert PixelDenoiserConfig.from_state_dict(stored) == RECIPE.network
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert "synthetic" in header["__metadata__"]["title"]


def test_latents_of_the_recipe_are_the_autoencoders():
    assert RECIPE.network.latent_channels == PixelAutoencoder.latent_channels
