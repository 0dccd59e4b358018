"""CFW's training on a tiny real autoencoder: what learns, what stays, exact resume, gradients, triples on disk, and that it learns."""

import pytest
import torch
from adaptivesr.imaging.metrics.named import NamedMetrics
from adaptivesr.models.cfw import CFW, CFWConfig, FuseConfig
from adaptivesr.models.judges.patch_discriminator import PatchDiscriminator, initialise
from adaptivesr.sampling.noise import generator_for
from adaptivesr.training.cfw import losses as cfw_losses
from adaptivesr.training.cfw.config import FRESH, GRADIENTS, LPIPS, NEAR_VAE, PRESETS, CFWOptions, CFWTrainConfig
from adaptivesr.training.cfw.init import fresh_cfw, fusion_config, save_memory
from adaptivesr.training.cfw.losses import MissingLPIPSError, gradient_distance, make_perceptual
from adaptivesr.training.cfw.run import CFWRun, cfw_state, side_by_side
from adaptivesr.training.cfw.triples import SHARD, TripleCache, build, is_whole
from adaptivesr.training.runs import resume_run, save_run, train
from PIL import Image
from torch import nn
from torch.nn import functional as F

WIDTH, SIDE = 32, 24  # a norm has 32 groups
CONFIG = CFWConfig((FuseConfig(WIDTH, WIDTH, 4, 1), FuseConfig(WIDTH, WIDTH, 4, 1)))


class Base(nn.Module):
    """A frozen autoencoder whose latents are means of 8 x 8 pixels; its features are convolutions of the picture."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = (nn.Conv2d(n, WIDTH, 3, 2, 1) for n in (3, WIDTH))
        self.deep, self.middle, self.last = (
            nn.Conv2d(n, m, 3, 1, 1) for n, m in ((4, WIDTH), (WIDTH, WIDTH), (WIDTH, 3))
        )
        self.requires_grad_(False)

    def decode_fused(self, cfw, latent, low):
        first = F.silu(self.first(low * 2 - 1))
        features = {1: first, 2: F.silu(self.second(first))}
        h = F.interpolate(self.deep(latent), scale_factor=2)
        h = h if cfw is None else cfw(2, features[2], h, 1.0)
        h = F.interpolate(F.silu(self.middle(h)), scale_factor=2)
        h = h if cfw is None else cfw(1, features[1], h, 1.0)
        return self.last(F.interpolate(F.silu(h), scale_factor=2))


class Pictures:
    """Pictures that follow from the generator, and blurred."""

    def batch(self, generator, size):
        cells = torch.rand(size, 3, 6, 6, generator=generator)
        target = F.interpolate(cells, size=SIDE, mode="bicubic").clamp(0, 1)
        return target, F.avg_pool2d(target, 3, 1, 1)


def restore(low, generator):
    small = F.avg_pool2d(low, 8)
    latent = torch.cat([small, small.mean(1, keepdim=True)], 1) * 2 - 1
    return latent + 0.1 * torch.randn(latent.shape, generator=generator)


def cache(count=4, **about):
    return TripleCache(count, 7, about)


@pytest.fixture
def triples(tmp_path):
    return build(tmp_path / "triples", cache(), Pictures(), restore)


def make_run(triples, *, start=NEAR_VAE, frugal=False, **settings):
    config = CFWTrainConfig(
        **{"lr": 1e-3, "accumulate": 1, "perceptual": GRADIENTS, "adversarial_after": 1, "start": start, **settings}
    )
    cfw, discriminator = fresh_cfw(CONFIG, start, generator_for(5)), None
    if config.adversarial_weight:
        discriminator = PatchDiscriminator(4)
        initialise(discriminator, generator_for(6))
    if frugal:
        save_memory(cfw)
    return CFWRun(cfw_state(config, cfw, discriminator), config, Base(), triples, gradient_distance)


def values(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_fusion_layers_and_discriminator_learn_and_the_autoencoder_does_not(triples):
    run = make_run(triples)
    before, frozen = values(run.state.model), values(run.base)
    train(run, 4)  # what stands before a silent layer moves once that layer has
    after = values(run.state.model)
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == ["discriminator.main.11.bias"]  # the hinge pulls at it from both sides, until a logit is beyond one
    assert same(frozen, values(run.base)) and all(parameter.grad is None for parameter in run.base.parameters())


def test_before_its_time_there_is_no_verdict_and_the_discriminator_does_not_learn(triples):
    run = make_run(triples, adversarial_after=2)
    before = values(run.state.model.discriminator)
    train(run, 2)
    assert same(before, values(run.state.model.discriminator))
    train(run, 3)
    assert not same(before, values(run.state.model.discriminator))
    assert [sorted(row) for _, row in run.log.rows] == [
        ["l1", "perceptual"], ["l1", "perceptual"], ["adversarial", "discriminator", "l1", "perceptual"],
    ]  # fmt: skip


def test_a_verdict_gives_the_fusion_gradients_and_the_discriminator_none(triples):
    run = make_run(triples, adversarial_after=0, start=FRESH)
    losses, _, _ = run.losses(generator_for(1))
    cfw, discriminator = run.state.model.cfw, run.state.model.discriminator
    discriminator.requires_grad_(False)
    losses["adversarial"].mean().backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert all(parameter.grad is not None for parameter in cfw.parameters())


def test_a_silent_start_gives_the_autoencoders_own_pictures_and_a_fresh_one_does_not(triples):
    _, low, latent = triples.batch(generator_for(2), 2)
    for start, equal in ((NEAR_VAE, True), (FRESH, False)):
        run = make_run(triples, start=start)
        with torch.no_grad():
            assert torch.equal(*(run.base.decode_fused(cfw, latent, low) for cfw in (None, run.cfw))) is equal


@pytest.mark.parametrize("after", [0, 3])
def test_two_steps_and_two_more_equal_four_bit_for_bit(triples, tmp_path, after):
    whole, first, second = (make_run(triples, accumulate=2, batch=2, adversarial_after=after) for _ in range(3))
    train(whole, 4)
    train(first, 2)
    save_run(first, tmp_path / "run.safetensors")
    resume_run(second, tmp_path / "run.safetensors")
    train(second, 4)
    assert same(values(whole.state.model), values(second.state.model)) and whole.log.rows == second.log.rows
    for one, other in zip(whole.state.optimizers, second.state.optimizers, strict=True):
        left, right = one.state_dict()["state"], other.state_dict()["state"]
        assert left and all(same(left[index], right[index]) for index in left)


def test_checkpointing_changes_no_bit(triples):
    runs = [make_run(triples, frugal=frugal) for frugal in (False, True)]
    for run in runs:
        train(run, 2)
    assert same(*(values(run.state.model) for run in runs))


def test_accumulated_batches_make_the_mean_step(triples):
    """Two batches of one: the gradient of the mean of both."""
    run = make_run(triples, accumulate=2, adversarial_weight=0.0, start=FRESH)
    generator = generator_for(run.config.seed, 0)
    torch.stack([run.weighed(run.losses(generator)[0]) for _ in range(2)]).mean().backward()
    wanted = {name: parameter.grad.clone() for name, parameter in run.cfw.named_parameters()}
    seen = {}
    run.state.optimizers[0].step = lambda: seen.update({n: p.grad.clone() for n, p in run.cfw.named_parameters()})
    run.train_step(generator_for(run.config.seed, 0))
    for name, gradient in wanted.items():
        torch.testing.assert_close(seen[name], gradient, atol=1e-8, rtol=1e-4)


class Fixed:
    """The same four triples at every step, each another, in float64."""

    def __init__(self, triples):
        drawn = zip(*triples.batch(generator_for(3), 32))
        found = {row[2].numpy().tobytes(): row for row in drawn}  # by the latent
        assert len(found) == 4
        self.kept = [torch.stack(column).double() for column in zip(*found.values())]

    def batch(self, generator, size):
        return [tensor[:size] for tensor in self.kept]


def test_gradients_equal_differences(triples):
    run = make_run(triples, adversarial_after=0, start=FRESH)
    run.state.model.double(), run.base.double()
    run.triples = Fixed(triples)

    def loss():
        return run.weighed(run.losses(generator_for(9))[0])

    loss().backward()
    wanted = {name: parameter for name, parameter in run.cfw.named_parameters() if parameter.grad.abs().max() > 1e-6}
    assert len(wanted) > 40
    for name, parameter in list(wanted.items())[::6]:
        place = parameter.grad.abs().flatten().argmax()
        step, flat, ends = 1e-6, parameter.data.view(-1), []
        for sign in (1, -1):
            flat[place] += sign * step
            ends.append(float(loss().detach()))
            flat[place] -= sign * step
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(parameter.grad.flatten()[place]), rel=1e-3, abs=1e-8), name


@pytest.mark.slow
def test_four_triples_are_learnt_tenfold(triples, tmp_path):
    run = make_run(triples, batch=4, adversarial_weight=0.0, lr=3e-3)
    run.triples = Fixed(triples)
    run.triples.kept = [tensor.float() for tensor in run.triples.kept]
    rows = [shown(run)]
    train(run, 200)
    rows.append(shown(run))
    save(torch.cat(rows, dim=1), tmp_path / "before_and_after.png")
    totals = [sum(row.values()) for _, row in run.log.rows]
    assert min(totals[-10:]) < 0.1 * totals[0]


def shown(run):
    """LR pictures, what is decoded with fusion, and the truth in three columns, (3, H, W) in [0, 1]."""
    target, low, latent = run.triples.kept
    with torch.no_grad():
        made = (run.base.decode_fused(run.cfw, latent, low) / 2 + 0.5).clamp(0, 1)
    return torch.cat([torch.cat([*column], dim=1) for column in (low, made, target)], dim=2)


def save(picture, path):
    """A PNG to look at, with larger pixels."""
    large = F.interpolate(picture[None], scale_factor=6)[0]
    Image.fromarray((large.movedim(0, -1) * 255).byte().numpy()).save(path)


# --- Triples ----------------------------------------------------------------------------------------------------------


def test_triples_are_what_the_sampler_made_of_the_stored_pictures(triples):
    target, low = Pictures().batch(generator_for(7, 0), SHARD)
    found = triples.batch(generator_for(0), 16)
    for stored, true in ((found[0], target), (found[1], low)):
        assert all((true - one).abs().amax((1, 2, 3)).min() <= 0.5 / 255 + 1e-6 for one in stored)
    assert found[2].shape == (16, 4, SIDE // 8, SIDE // 8)


def test_shards_are_found_again_and_damaged_ones_are_made_again(tmp_path):
    made = []

    def counted(low, generator):
        made.append(len(low))
        return restore(low, generator)

    first = build(tmp_path, cache(2 * SHARD), Pictures(), counted)
    assert len(first) == 2 * SHARD and made == [SHARD] * 2
    bytes_of = [path.read_bytes() for path in first.shards]
    flipped = bytearray(bytes_of[0])
    flipped[-5] ^= 1
    first.shards[0].write_bytes(flipped)
    first.shards[1].write_bytes(bytes_of[1][:-7])
    assert not any(is_whole(path) for path in first.shards)
    second = build(tmp_path, cache(2 * SHARD + 1), Pictures(), counted)
    assert len(made) == 5 and len(second) == 3 * SHARD
    assert [path.read_bytes() for path in second.shards[:2]] == bytes_of
    build(tmp_path, cache(SHARD), Pictures(), counted)
    assert len(made) == 5
    build(tmp_path, cache(SHARD, steps="3"), Pictures(), counted)
    assert len(made) == 6


def test_latents_that_are_not_finite_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        build(tmp_path, cache(), Pictures(), lambda low, _: low[:, :1] / 0)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_row_of_samples_has_four_pictures(triples):
    row = side_by_side(make_run(triples), generator_for(1))
    assert row.shape == (1, 3, SIDE, 4 * SIDE)
    assert torch.equal(row[..., SIDE : 2 * SIDE], row[..., 2 * SIDE : 3 * SIDE])  # silent fusion


# --- Losses and settings ----------------------------------------------------------------------------------------------


def test_gradient_distance_sees_edges_and_no_shift_of_brightness():
    picture = torch.rand(2, 3, 16, 16, generator=generator_for(1))
    assert torch.equal(gradient_distance(picture, picture), torch.zeros(2))
    torch.testing.assert_close(gradient_distance(picture + 0.25, picture), torch.zeros(2), atol=1e-6, rtol=0)
    assert (gradient_distance(F.avg_pool2d(picture, 3, 1, 1), picture) > 0.05).all()
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)  # differences of 1, 2 and 4 along one axis of two
    torch.testing.assert_close(gradient_distance(ramp, torch.zeros_like(ramp)), torch.tensor([7 / 6]))


def test_without_lpips_weights_the_sentence_names_the_loss_that_needs_none(monkeypatch):
    monkeypatch.setattr(cfw_losses, "named_metrics", lambda *_: NamedMetrics())
    with pytest.raises(MissingLPIPSError, match="gradients at three scales"):
        make_perceptual(LPIPS, torch.device("cpu"))


def test_lpips_is_given_pictures_of_its_range_and_is_frozen(monkeypatch):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, picture, target, *, normalize):
            assert normalize is False
            return self.weight * (picture - target).square().mean((1, 2, 3), keepdim=True)

    metric, asked = nn.Module(), []
    metric.net = Network()

    def made(names, device, options):
        asked.append((names, options))
        return NamedMetrics({"lpips-vgg": metric})

    monkeypatch.setattr(cfw_losses, "named_metrics", made)
    picture = torch.zeros(2, 3, 8, 8, requires_grad=True)
    distance = make_perceptual(LPIPS, torch.device("cpu"))(picture, torch.ones(2, 3, 8, 8))
    distance.sum().backward()
    assert distance.tolist() == [1.0, 1.0] and picture.grad.abs().min() > 0 and metric.net.weight.grad is None
    assert asked == [(["lpips-vgg"], {"lpips-vgg": {"as_loss": True}})]


def test_the_published_sizes_are_those_of_the_paper_and_of_pix2pix():
    with torch.device("meta"):
        cfw, discriminator = CFW(fusion_config([(256, 256), (512, 512)], "paper")), PatchDiscriminator()
    assert sum(p.numel() for p in cfw.parameters()) == 44_393_728 and len(cfw.state_dict()) == 156
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_633
    assert discriminator(torch.zeros(1, 3, 70, 70, device="meta")).shape == (1, 1, 6, 6)


def test_the_preset_names_fields_and_numbers_of_the_public_code():
    fields = {**vars(CFWTrainConfig()), **vars(CFWOptions(1))}
    paper = PRESETS["paper"]
    assert all(name in fields for name in paper)
    assert (paper["batch"], paper["accumulate"], paper["lr"], paper["adversarial_weight"]) == (1, 8, 5e-5, 0.025)
    assert (paper["adversarial_after"], paper["triples"], paper["sampling_steps"]) == (501, 100_000, 200)


@pytest.mark.parametrize(
    "wrong", [{"accumulate": 0}, {"lr": 0.0}, {"adversarial_weight": -1.0}, {"start": "x"}, {"perceptual": "x"}]
)
def test_settings_that_no_run_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        CFWTrainConfig(**wrong)
