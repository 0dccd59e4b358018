from pathlib import Path

import pytest
import torch
from adaptivesr.sampling.residual_shift import at, prior_sample
from adaptivesr.sampling.schedules import residual_shift_schedule
from adaptivesr.tools.golden import tad_sr
from adaptivesr.tools.golden.vectors import Golden
from adaptivesr.training.tad_sr import config, losses
from adaptivesr.training.tad_sr.base import LatentModel
from adaptivesr.training.tad_sr.config import DistillSettings, ScoreForm
from adaptivesr.training.tad_sr.steps import DistillBatch, DistillDraw, score_gradient, weights_of
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden" / "tad_sr"
SCHEDULE = residual_shift_schedule()
FORMS = list(ScoreForm)


def normal(seed, shape=(3, 3, 8, 8)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TinyNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.time = nn.Parameter(torch.tensor(0.02))

    def forward(self, x, t):
        return torch.tanh(self.conv(x)) + self.time * t[:, None, None, None]


@pytest.fixture
def teacher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyNetwork().requires_grad_(False)


@pytest.fixture
def student():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return TinyNetwork()


def test_losses_match_the_golden_vectors():
    results = Golden.run(GOLDEN / "losses.safetensors", tad_sr.CHECKS["losses"])
    assert len(results) > 20
    assert [result.line() for result in results if not result.ok] == []


@pytest.mark.parametrize("form", FORMS)
def test_score_gradient_is_zero_when_student_equals_teacher(teacher, form):
    z = normal(0).requires_grad_()
    t = torch.tensor([0, 1, 2])
    loss = losses.high_frequency_score_distillation(
        teacher, z, z.detach(), normal(1), t, normal(2), SCHEDULE, form=form
    )
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert torch.equal(gradient, torch.zeros_like(z))


@pytest.mark.parametrize("form", FORMS)
def test_simplified_score_gradient_is_the_difference_of_predicted_noises(teacher, form):
    z_s, z_tea, y, noise, t = normal(0), normal(3), normal(1), normal(2), torch.tensor([0, 1, 2])
    student_score = losses.teacher_score(teacher, z_s, y, t, noise, SCHEDULE, form)
    teacher_score = losses.teacher_score(teacher, z_tea, y, t, noise, SCHEDULE, form)
    factor = at((1.0 - SCHEDULE.etas) / SCHEDULE.prior_std, t, z_s)
    simplified = factor * ((z_s - student_score.x0) - (z_tea - teacher_score.x0))  # eq. 8
    torch.testing.assert_close(simplified, losses.hsd_gradient(student_score, teacher_score), rtol=1e-4, atol=1e-3)


def test_score_gradient_reaches_only_the_students_latent(teacher, student):
    y, noise, t = normal(1), normal(2), torch.tensor([0, 1, 2])
    z_tea = normal(3).requires_grad_()
    z_s = student(y, t)
    losses.high_frequency_score_distillation(teacher, z_s, z_tea, y, t, noise, SCHEDULE).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert z_tea.grad is None


def test_network_jacobian_is_left_out_of_the_score_gradient(teacher):
    z_s, z_tea, y, noise, t = normal(0).requires_grad_(), normal(3), normal(1), normal(2), torch.tensor([0, 1, 2])
    loss = losses.high_frequency_score_distillation(teacher, z_s, z_tea, y, t, noise, SCHEDULE)
    (gradient,) = torch.autograd.grad(loss.sum(), z_s)
    scores = [losses.teacher_score(teacher, z, y, t, noise, SCHEDULE) for z in (z_s, z_tea)]
    torch.testing.assert_close(gradient, (scores[0].eps - scores[1].eps) / z_s[0].numel())


def sds_gradient(teacher, z, y, t, noise):
    """The gradient that the training takes in the ablation."""
    model = LatentModel(lambda x, times, lr: teacher(x, times), SCHEDULE, latents=None)
    draw = DistillDraw(noise, t, t, score_times=t, score_noise=noise, adversarial_times=t, adversarial_noise=noise)
    batch = DistillBatch(hr=z, lr=z, x0=z, y=y, x=z, target=None, draw=draw)
    return score_gradient(DistillSettings(score="sds"), model, batch, z)


def test_sds_gradient_is_predicted_minus_true_noise(teacher):
    z, y, noise, t = normal(0).requires_grad_(), normal(1), normal(2), torch.tensor([0, 1, 2])
    gradient = sds_gradient(teacher, z, y, t, noise)
    eps = losses.teacher_score(teacher, z, y, t, noise, SCHEDULE).eps
    torch.testing.assert_close(gradient, eps - noise)


def test_sds_vanishes_for_a_teacher_that_restores_the_latent():
    z = normal(0).requires_grad_()
    y, noise, t = normal(1), normal(2), torch.tensor([0, 1, 2])
    assert sds_gradient(lambda x, times: z.detach(), z, y, t, noise).abs().max() < 1e-4


def test_adversarial_gradient_reaches_the_student_through_the_frozen_teacher(teacher, student):
    y, noise, t = normal(1), normal(2), torch.tensor([0, 5, 13])
    seen = losses.adversarial_input(student(y, t), y, t, noise, SCHEDULE)
    losses.generator_hinge(teacher(seen, t).flatten(1)).mean().backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_hinge_losses_ignore_what_is_beyond_the_margin():
    real, fake = torch.full((2, 5), 3.0), torch.full((2, 5), -2.0)
    assert torch.equal(losses.discriminator_hinge(real, fake), torch.zeros(2))
    assert torch.equal(losses.discriminator_hinge(-real, -fake), torch.full((2,), 7.0))
    assert torch.equal(losses.generator_hinge(fake), torch.full((2,), 2.0))


def test_sinsr_cycle_does_not_train_the_inner_inversion():
    """Only the noisy-to-clean call of the ground-truth term gets a gradient: the inner call at time 0 is detached."""
    gain = torch.tensor([1.0, 1.0], requires_grad=True)

    def student(x, t):
        return gain[(t != 0).long()][:, None, None, None] * x

    parts = losses.sinsr_losses(student, normal(0), normal(3), normal(1), SCHEDULE)
    (gradient,) = torch.autograd.grad(parts.ground_truth.sum(), gain)
    assert gradient[0] == 0 and gradient[1] != 0


def test_sinsr_losses_vanish_for_a_perfect_student():
    z_y, noise, x0 = normal(1), normal(2), normal(4)
    z_T = prior_sample(z_y, noise, SCHEDULE)

    def perfect(x, t):
        return z_T if (t == 0).all() else x0

    parts = losses.sinsr_losses(perfect, z_T, x0, x0, SCHEDULE)
    assert all(torch.equal(part, torch.zeros(3)) for part in (parts.distill, parts.inverse, parts.ground_truth))


def test_resshift_loss_is_weighted_only_on_request(student):
    x0, y, noise, t = normal(0), normal(1), normal(2), torch.tensor([0, 7, 14])
    plain = losses.resshift_loss(student, x0, y, t, noise, SCHEDULE)
    weighted = losses.resshift_loss(student, x0, y, t, noise, SCHEDULE, weighted=True)
    weights = torch.tensor(SCHEDULE.weight_loss_mse[t.numpy()], dtype=torch.float32)
    torch.testing.assert_close(weighted, weights * plain)


def test_times_and_perturbations_follow_their_laws():
    generator = torch.Generator().manual_seed(0)
    times = losses.draw_times(2000, 3, generator)
    assert times.unique().tolist() == [0, 1, 2]
    like = torch.empty(1, 1, 100, 100)
    uniform = losses.draw_perturbation(like, ScoreForm.CODE, generator)
    gaussian = losses.draw_perturbation(like, ScoreForm.PAPER, generator)
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.02
    assert abs(gaussian.mean()) < 0.05 and abs(gaussian.std() - 1) < 0.05


def test_total_weighs_as_released():
    parts = {"distill": 1.0, "score": 10.0, "adversarial": 100.0}
    for released, total in ((config.SUPER_RESOLUTION_WEIGHTS, 13.0), (config.FACE_WEIGHTS, 22.0)):
        weights = weights_of(DistillSettings(score_weight=released.score, adversarial_weight=released.adversarial))
        assert sum(weights[name] * value for name, value in parts.items()) == pytest.approx(total)
