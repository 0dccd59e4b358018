"""Distillation on small real networks of both families: who learns from what, exact resume, and that it learns."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig
from adaptivesr.models.residual_unet import ResidualUNet, ResidualUNetConfig
from adaptivesr.models.swin import SwinConfig
from adaptivesr.models.vq_autoencoder import VQAutoencoder, VQConfig
from adaptivesr.sampling.noise import generator_for
from adaptivesr.sampling.residual_shift import last_index, prior_sample
from adaptivesr.sampling.samplers import predict_x0, sample_deterministic
from adaptivesr.sampling.schedules import residual_shift_schedule
from adaptivesr.training.optim import learning_rate
from adaptivesr.training.runs import resume_run, save_run, train
from adaptivesr.training.tad_sr import distillation as tad_sr
from adaptivesr.training.tad_sr import losses
from adaptivesr.training.tad_sr import steps as tad_sr_steps
from adaptivesr.training.tad_sr.base import LatentModel, VQLatents, embedded_model
from adaptivesr.training.tad_sr.config import VARIANTS, DistillSettings, variant

PIXEL = PixelDenoiserConfig(channels=8, blocks=4, refine_channels=8, feature_channels=4, time_channels=8, num_steps=5)
UNET = ResidualUNetConfig(
    latent_channels=3, model_channels=32, channels=(32, 32), blocks=(1, 1), has_swin=(True, True),
    swin=SwinConfig(32, 2, 2, 4, 64), condition_stages=0, has_mask=False, image_size=8,
)  # fmt: skip
VQ = VQConfig(
    stem=32, channels=(32, 32, 32), blocks=(1, 1, 1), image_channels=3, z_channels=3, latent_channels=3, codes=16
)
FAST = DistillSettings(batch=2, lr=1e-3, discriminator_lr=1e-3, warmup=0, discriminator_width=4, teacher_steps=3)


def randomise(network, seed, spread=0.05):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, spread, generator=generator)
            else:
                parameter.normal_(0, 0.01, generator=generator)
        for module in network.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.weight.add_(1.0)
    return network


def pixel_teacher(seed=1):
    network = PixelDenoiser(PIXEL)
    network.reset_parameters(torch.Generator().manual_seed(seed))
    return embedded_model(randomise(network, seed))


def unet_teacher(seed=1):
    autoencoder = randomise(VQAutoencoder(VQ), 3, 0.1).eval()
    network = randomise(ResidualUNet(UNET), seed)
    return LatentModel(network, residual_shift_schedule(4, 0.2), VQLatents(autoencoder))


TEACHERS = {"pixel": pixel_teacher, "unet": unet_teacher}


def pair(batch=2, side=32, seed=5):
    generator = torch.Generator().manual_seed(seed)
    hr = F.interpolate(torch.rand(batch, 3, 8, 8, generator=generator), size=side, mode="bicubic") * 2 - 1
    return hr, F.avg_pool2d(hr, 4)


def state_of(family="pixel", settings=FAST, seed=2):
    teacher = TEACHERS[family]()
    student = randomise(copy.deepcopy(teacher.network), seed, 0.03)
    return tad_sr.DistillRun(tad_sr.distill_state(teacher, student, settings), settings, teacher, OnePair())


class OnePair:
    """The same pair at every step."""

    def batch(self, generator, size):
        hr, lr = pair(size)
        return hr / 2 + 0.5, lr / 2 + 0.5


def values(state):
    return {name: value.clone() for name, value in state.state.model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name"),
    [*(("pixel", name) for name in VARIANTS), *(("unet", name) for name in ("TAD-SR", "SinSR", "ResShift teacher"))],
)
def test_every_variant_steps(family, name):
    state = state_of(family, variant(name, FAST))
    teacher = copy.deepcopy(state.teacher.network.state_dict())
    before = values(state)
    for step in range(2):  # a blind discriminator's first step opens its last layers, its second moves the rest
        numbers = tad_sr.distill_step(state, *pair(), generator_for(0, step))
    assert all(torch.tensor(list(numbers.values())).isfinite())
    after = values(state)
    assert {key.split(".")[0] for key, value in before.items() if not torch.equal(value, after[key])} == {
        "student", *({"discriminator"} if "discriminator" in name or name == "TAD-SR" else set())
    }  # fmt: skip
    assert all(torch.equal(value, teacher[key]) for key, value in state.teacher.network.state_dict().items())
    assert all(parameter.grad is None for parameter in state.teacher.network.parameters())
    assert ("discriminator" in numbers) == (state.discriminator is not None)


@pytest.mark.slow
def test_what_the_variants_report():
    found = {
        name: set(tad_sr.distill_step(state_of("pixel", variant(name, FAST)), *pair(), generator_for(0)))
        for name in VARIANTS
    }
    score = {"distill", "score_gradient"}
    assert found["TAD-SR"] == found["SDS + plain discriminator"] == {*score, "discriminator", "adversarial"}
    assert found["distillation + HSD"] == found["distillation + SDS"] == score
    assert found["distillation"] == {"distill"}
    assert found["SinSR"] == {"distill", "inverse", "cycle"}
    assert found["ResShift teacher"] == {"resshift"}


def forward(state, settings=None, seed=0, **given):
    settings = settings or state.config
    batch = tad_sr_steps.prepare(settings, state.teacher, *pair(), generator_for(seed), **given)
    prediction, _ = tad_sr_steps.student_prediction(settings, state.student, state.teacher.schedule, batch)
    return batch, prediction


@pytest.mark.parametrize("family", TEACHERS)
def test_the_step_is_the_equations(family):
    """Total gradient of eq. 13 by the golden-tested functions, against the one that the step leaves."""
    settings = replace(FAST, score_weight=0.7, adversarial_weight=0.3, teacher_steps=0)
    state = state_of(family, settings)
    for step in range(2):
        tad_sr.distill_step(state, *pair(), generator_for(9, step))  # the discriminator sees
    teacher, schedule, student = state.teacher, state.teacher.schedule, state.student
    batch = tad_sr_steps.prepare(settings, teacher, *pair(), generator_for(4))
    draw, denoise = batch.draw, teacher.denoise(batch.lr)
    y, t = batch.y, last_index(batch.y, schedule)
    z_s = predict_x0(lambda x, time: student(x, time, batch.lr), prior_sample(y, draw.noise, schedule), t, schedule)
    z_tea = sample_deterministic(denoise, y, schedule, draw.noise)
    torch.testing.assert_close(batch.target, z_tea, atol=1e-6, rtol=1e-6)
    score = losses.high_frequency_score_distillation(
        denoise, z_s, z_tea, y, draw.score_times, draw.score_noise, schedule
    ).mean()
    twin = copy.deepcopy(state)  # its discriminator takes the step that comes first
    seen = {}

    def keep(_optimizer, _args, _kwargs):
        seen.update({name: p.grad.clone() for name, p in twin.student.named_parameters()})

    twin.student_optimizers[0].register_step_pre_hook(keep)
    tad_sr.distill_step(twin, *pair(), generator_for(4))
    # The power iteration runs in place: one more of it happens in the student's own judgement, so eval mode repeats it.
    judge = twin.discriminator.eval()
    features = tad_sr_steps.teacher_features(settings, teacher, batch, z_s)
    adversarial = losses.generator_hinge(judge(features, draw.adversarial_times)).mean()
    total = losses.per_sample_mse(z_s, z_tea).mean() + 0.7 * score + 0.3 * adversarial
    expected = torch.autograd.grad(total, list(student.parameters()))
    for (name, _), value in zip(student.named_parameters(), expected, strict=True):
        torch.testing.assert_close(seen[name], value, atol=1e-6, rtol=1e-4, msg=name)


def test_equal_latents_have_no_score_gradient():
    state = state_of()
    batch, _ = forward(state)
    gradient = tad_sr_steps.score_gradient(state.config, state.teacher, batch, batch.target)
    assert torch.count_nonzero(gradient) == 0
    other = tad_sr_steps.score_gradient(state.config, state.teacher, batch, batch.target + 0.1)
    assert other.abs().max() > 0.01
    towards_truth = replace(state.config, score_target="truth")
    assert torch.count_nonzero(tad_sr_steps.score_gradient(towards_truth, state.teacher, batch, batch.x0)) == 0


def test_a_student_that_is_its_teachers_chain_has_no_distillation_loss():
    state = state_of()
    batch, prediction = forward(state, target=None)
    found, _ = tad_sr_steps.student_losses(
        state.config, state.teacher, replace(batch, target=prediction.detach()), prediction
    )
    assert found["distill"].item() == 0 and found["score"].item() == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", TEACHERS)
def test_the_discriminators_step_leaves_the_student_alone_and_the_students_the_discriminator(family):
    state = state_of(family, replace(FAST, lr=0.0))
    for step in range(2):
        tad_sr.distill_step(state, *pair(), generator_for(0, step))
    student = {name: value for name, value in values(state).items() if name.startswith("student")}
    fresh = state_of(family, FAST).student.state_dict()
    assert all(torch.equal(value, fresh[name.removeprefix("student.")]) for name, value in student.items())
    gradients = []
    state.state.optimizers[-1].register_step_pre_hook(
        lambda *_: gradients.append([p.grad is not None for p in state.student.parameters()])
    )
    judged = []
    state.student_optimizers[0].register_step_pre_hook(
        lambda *_: judged.append([p.grad is not None for p in state.discriminator.parameters()])
    )
    tad_sr.distill_step(state, *pair(), generator_for(0, 2))
    assert not any(gradients[0]) and not any(judged[0])


def test_the_adversarial_loss_reaches_the_whole_student_through_the_frozen_teacher():
    settings = replace(FAST, distill=0.0, score="none", adversarial_weight=1.0)
    state = state_of("unet", settings)
    grads = {}
    state.student_optimizers[0].register_step_pre_hook(
        lambda *_: grads.update({n: float(p.grad.abs().max()) for n, p in state.student.named_parameters()})
    )
    for step in range(2):
        tad_sr.distill_step(state, *pair(), generator_for(0, step))
    assert all(value > 0 for value in grads.values())


def test_time_reaches_only_the_time_aware_discriminator():
    batch, prediction = forward(state_of())
    logits = {}
    for kind in ("plain", "time_aware"):
        state = state_of("pixel", replace(FAST, adversarial=kind))
        randomise(state.discriminator, 4, 0.2).eval()
        for time in (0, 3):
            told = replace(batch, draw=replace(batch.draw, adversarial_times=torch.full((2,), time)))
            features = tad_sr_steps.teacher_features(state.config, state.teacher, batch, prediction)
            (logits[kind, time],) = tad_sr.judged(state, told, features)
    assert torch.equal(logits["plain", 0], logits["plain", 3])
    assert not torch.equal(logits["time_aware", 0], logits["time_aware", 3])


@torch.no_grad()
def test_a_mean_over_heads_weighs_small_maps_as_large_ones():
    state = state_of("unet", replace(FAST, logit_mean="over heads"))
    randomise(state.discriminator, 4, 0.2).eval()
    batch, prediction = forward(state)
    large, *small = tad_sr_steps.teacher_features(state.config, state.teacher, batch, prediction)
    features = [torch.nn.functional.interpolate(large, scale_factor=2), *small]  # as at the published size
    heads = tad_sr.judged(state, batch, features)
    assert len(heads) == len(features) > 1 and heads[0].shape[1] == 4 * heads[1].shape[1]
    whole = state_of("unet", FAST)
    whole.discriminator.load_state_dict(state.discriminator.state_dict())
    whole.discriminator.eval()
    (together,) = tad_sr.judged(whole, batch, features)
    assert torch.equal(together, torch.cat(heads, 1))
    by_head = [float(losses.generator_hinge(head).mean()) for head in heads]
    by_position = float(losses.generator_hinge(together).mean())
    assert by_position != pytest.approx(sum(by_head) / len(by_head), rel=1e-3)
    seen = []
    state.student_optimizers[0].register_step_pre_hook(lambda *_: seen.append(True))
    with torch.enable_grad():
        numbers = tad_sr.distill_step(state, *pair(), generator_for(0))
    assert seen and numbers["discriminator"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("unet", {"microbatch": 1}),
        ("unet", {"logit_mean": "over heads", "score_levels": 2}),
        ("pixel", {"fidelity": 0.3, "energy": 0.01}),
        ("pixel", {"optimizer": "muon", "clip_norm": 1.0, "cosine_steps": 4}),
    ],
)
def test_two_steps_and_two_more_equal_four_bit_for_bit(family, changes, tmp_path):
    settings = replace(FAST, teacher_steps=2, **changes)

    whole, first, second = (state_of(family, settings) for _ in range(3))
    train(whole, 4)
    train(first, 2)
    save_run(first, tmp_path / "run.safetensors")
    train(first, 3)  # goes on after the save, as an interrupted run would
    resume_run(second, tmp_path / "run.safetensors")
    assert second.state.step == 2
    train(second, 4)
    left, right = values(whole), values(second)
    assert any(name.endswith("weight_u") for name in left)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert all(torch.equal(v, second.state.ema.values[n]) for n, v in whole.state.ema.values.items())
    assert whole.log.rows == second.log.rows
    for a, b in zip(whole.state.optimizers, second.state.optimizers, strict=True):
        for index, kept in a.state_dict()["state"].items():
            assert all(torch.equal(value, b.state_dict()["state"][index][name]) for name, value in kept.items())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    state = state_of()
    save_run(state, tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(state_of(settings=replace(FAST, score_weight=0.5)), tmp_path / "run.safetensors")
    other = state_of()
    other.about = "another teacher"
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(other, tmp_path / "run.safetensors")


@pytest.mark.slow
def test_microbatches_sum_to_the_batch():
    """Without a discriminator, whose power iterations count its calls."""
    settings = replace(variant("distillation + HSD", FAST), batch=4, fidelity=0.2)
    found = []
    for size in (0, 2, 1):
        state = state_of("unet", replace(settings, microbatch=size))
        grads = {}
        state.student_optimizers[0].register_step_pre_hook(
            lambda *_, s=state, g=grads: g.update({n: p.grad.clone() for n, p in s.student.named_parameters()})
        )
        numbers = tad_sr.distill_step(state, *pair(4), generator_for(0))
        found.append((grads, numbers))
    for grads, numbers in found[1:]:
        assert numbers["distill"] == pytest.approx(found[0][1]["distill"], rel=1e-5)
        for name, value in found[0][0].items():
            assert (grads[name] - value).norm() <= 1e-4 * value.norm() + 1e-7, name  # sums in another order


def test_given_noise_and_target_are_used():
    state = state_of()
    batch, _ = forward(state)
    again, _ = forward(state, seed=7, noise=batch.draw.noise, target=batch.target)
    assert torch.equal(again.x, batch.x) and torch.equal(again.target, batch.target)
    assert not torch.equal(again.draw.score_noise, batch.draw.score_noise)


@pytest.mark.slow
def test_all_variants_see_the_same_noise():
    draws = [forward(state_of("pixel", variant(name, FAST)))[0].draw for name in VARIANTS]
    for draw in draws[1:]:
        assert torch.equal(draw.noise, draws[0].noise) and torch.equal(
            draw.adversarial_times, draws[0].adversarial_times
        )


def test_the_teacher_may_see_a_part_of_the_batch():
    settings = replace(FAST, batch=4, teacher_batch=1, fidelity=1.0)
    state = state_of("pixel", settings)
    batch = tad_sr_steps.prepare(settings, state.teacher, *pair(4), generator_for(0))
    assert len(batch.target) == 1 and len(batch.x) == 4
    assert tad_sr.distill_step(state, *pair(4), generator_for(0))["fidelity"] > 0


def test_a_step_of_teacher_time_costs_nothing_where_no_loss_needs_it():
    state = state_of("pixel", replace(FAST, distill=0.0, score="none", adversarial="none", fidelity=1.0))
    calls = []
    state.teacher.network.register_forward_hook(lambda *_: calls.append(1))
    tad_sr.distill_step(state, *pair(), generator_for(0))
    assert not calls
    tad_sr.distill_step(state_with := state_of("pixel", variant("distillation", FAST)), *pair(), generator_for(0))
    state_with.teacher.network.register_forward_hook(lambda *_: calls.append(1))
    tad_sr.distill_step(state_with, *pair(), generator_for(1))
    assert len(calls) == 3  # its shortened chain


@pytest.mark.slow
def test_random_times_are_those_of_the_public_code():
    schedule = residual_shift_schedule()
    assert [tad_sr_steps.start_index(schedule, quarter) for quarter in (1, 2, 3, 4)] == [3, 7, 11, 14]
    settings = replace(FAST, random_times=True, teacher_steps=0)
    state = state_of("pixel", settings)
    starts = {int(forward(state, seed=seed)[0].draw.start[0]) for seed in range(12)}
    assert starts == {1, 2, 3, 4}
    assert tad_sr.distill_step(state, *pair(), generator_for(3))["distill"] > 0


def test_code_form_changes_noise_and_score():
    paper, code = (state_of("pixel", replace(FAST, score_form=form)) for form in ("paper", "code"))
    assert forward(code)[0].draw.score_noise.min() >= 0 > forward(paper)[0].draw.score_noise.min()
    assert torch.equal(forward(code)[0].draw.noise, forward(paper)[0].draw.noise)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"score": "none", "adversarial": "none"}, {"score": "none", "adversarial": "none", "inverse": 1.0, "cycle": 1.0},
     {"distill": 0.0, "score": "none", "adversarial": "none", "resshift": 1.0},
     {"distill": 0.0, "score": "none", "adversarial": "none", "fidelity": 1.0, "energy": 0.1}],
)  # fmt: skip
@pytest.mark.parametrize("family", TEACHERS)
def test_gradients_equal_finite_differences(family, changes):
    """Float64, a step along a random direction of all parameters. The score losses have no loss whose difference to take."""
    if family == "unet":
        changes = {**changes, "energy": 0.0}  # a straight-through gradient is none of the codebook
    settings = replace(FAST, **changes)
    teacher = TEACHERS[family]()
    teacher.network.double()
    if family == "unet":
        teacher.latents._autoencoder.double()
        teacher.network.time_embed.float()  # which the network keeps in float32 whatever the rest is
    student = randomise(copy.deepcopy(teacher.network), 2, 0.03)
    state = tad_sr.DistillRun(tad_sr.distill_state(teacher, student, settings), settings, teacher)
    hr, lr = (side.double() for side in pair())
    batch = tad_sr_steps.prepare(settings, teacher, hr, lr, generator_for(1))
    detached = settings.cycle > 0

    def total():
        prediction, sinsr = tad_sr_steps.student_prediction(settings, state.student, teacher.schedule, batch)
        found, _ = tad_sr_steps.student_losses(settings, teacher, batch, prediction)
        found |= {name: value.mean() for name, value in sinsr.items() if name != "cycle" or not detached}
        if settings.resshift:
            found["resshift"] = tad_sr_steps.stage_zero_loss(state.student, teacher.schedule, batch)
        return torch.stack([tad_sr_steps.weights_of(settings)[name] * value for name, value in found.items()]).sum()

    parameters = [parameter for parameter in state.student.parameters() if parameter.dtype is torch.float64]
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    gradient = torch.autograd.grad(total(), parameters)
    expected = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    step, ends = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=sign * step)
            ends.append(float(total()))
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=sign * step)
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def measured(state, judge):
    """All losses at fixed noise, without a step."""
    batch, prediction = forward(state)
    found, numbers = tad_sr_steps.student_losses(state.config, state.teacher, batch, prediction)
    features = tad_sr_steps.teacher_features(state.config, state.teacher, batch, prediction)
    fake = judge(features, batch.draw.adversarial_times)
    return {"distill": float(found["distill"]), **numbers, "adversarial": float(losses.generator_hinge(fake).mean())}


@pytest.mark.slow
def test_it_overfits_a_batch_with_all_losses_falling():
    # Weights for latents of this deviation; TAD-SR's are for latents of deviation 1.
    settings = replace(
        FAST, lr=3e-3, distill=10.0, score_weight=0.02, adversarial_weight=0.01, taps=(0, 3), teacher_steps=2
    )
    run = state_of("pixel", settings)
    train(run, 15)
    judge = copy.deepcopy(run.discriminator).eval()
    before = measured(state_of("pixel", settings), judge)
    train(run, 60)
    after = measured(run, judge)
    assert after["distill"] < 0.5 * before["distill"], (before, after)
    assert after["score_gradient"] < 0.7 * before["score_gradient"], (before, after)
    assert after["adversarial"] < before["adversarial"], (before, after)  # by a judge that knew the first student


@pytest.mark.slow
def test_the_discriminator_learns_to_tell_an_untrained_student_from_the_truth():
    settings = replace(FAST, lr=0.0, discriminator_lr=5e-3, distill=0.0, score="none")
    run = state_of("pixel", settings)
    train(run, 40)
    seen = [numbers["discriminator"] for _, numbers in run.log.rows]
    assert seen[0] == pytest.approx(2.0, abs=0.2) and max(seen[-5:]) < 0.8 * seen[0]


def test_a_loss_that_is_not_finite_stops_before_the_students_step():
    state = state_of("pixel", variant("distillation", FAST))
    before = values(state)
    hr, lr = pair()
    with pytest.raises(ValueError, match="loss of step 1 is not finite"):
        tad_sr.distill_step(state, hr, lr * float("nan"), generator_for(0))
    after = values(state)
    assert all(torch.equal(value, after[name]) for name, value in before.items()) and state.state.step == 0


def test_the_average_is_a_student_and_lags_behind():
    state = state_of()
    for step in range(3):
        tad_sr.distill_step(state, *pair(), generator_for(0, step))
    network = PixelDenoiser(PIXEL)
    network.load_state_dict(state.state.ema.averaged())
    own = state.student.state_dict()
    assert any(not torch.equal(value, own[name]) for name, value in network.state_dict().items())
    assert torch.equal(network.sqrt_etas, own["sqrt_etas"])


def test_frozen_parameters_stay_and_the_rest_moves():
    state = state_of("pixel", replace(FAST, frozen=("embed_latent", "film")))
    before = values(state)
    tad_sr.distill_step(state, *pair(), generator_for(0))
    after = values(state)
    moved = {n for n, v in after.items() if n.startswith("student") and not torch.equal(v, before[n])}
    assert moved and not any(name.startswith(("student.embed_latent", "student.film")) for name in moved)


def test_the_learning_rate_warms_up_and_may_fall():
    rates = [learning_rate(1.0, step, warmup=10) for step in range(30)]
    assert rates[0] == pytest.approx(0.1) and rates[9:] == [1.0] * 21
    assert learning_rate(1.0, 29, warmup=10, cosine_steps=30) < 0.02


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"score": "x"}, "score 'x'.*none, sds, hsd"),
        ({"adversarial": "x"}, "none, plain, time_aware"),
        ({"logit_mean": "x"}, "over positions, over heads"),
        ({"score_levels": 0}, "at least one level"),
        ({"batch": 0}, "batch of at least 1"),
        ({"teacher_batch": 3}, "up to it"),
        ({"microbatch": 1, "teacher_batch": 1}, "expected one of them"),
        ({"teacher_steps": 1}, "2 steps or more"),
        ({"inverse": 1.0, "random_times": True}, "last time and the whole batch"),
        ({"distill": -1.0}, "weights of 0 and more"),
        ({"distill": 0.0, "score": "none", "adversarial": "none"}, "not all 0"),
    ],
)
def test_settings_that_make_no_sense_are_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(FAST, **changes)


def test_the_teacher_cannot_teach_itself():
    teacher = pixel_teacher()
    with pytest.raises(ValueError, match="student is the teacher itself"):
        tad_sr.distill_state(teacher, teacher.network, FAST)
