"""The one-step recipe: the published stack read exactly, the tail's regression, photographs as pairs, exact resume."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from adaptivesr.models.compact_denoiser import CompactDenoiser, CompactDenoiserConfig
from adaptivesr.models.pixel_denoiser import upsampled_latent
from adaptivesr.sampling.residual_shift import last_index, scale_input
from adaptivesr.tools.embedded_weights import photos
from adaptivesr.tools.embedded_weights.config import OneStepConfig, PhaseConfig
from adaptivesr.tools.embedded_weights.degrade_mild import CLEAN, degrade
from adaptivesr.tools.embedded_weights.objectives import codec, schedule_of
from adaptivesr.tools.embedded_weights.one_step import export, fit_tail, foot, run_one_step, started
from adaptivesr.tools.embedded_weights.pool import VARIANTS, Mixture, Pool
from adaptivesr.tools.embedded_weights.warm_start import HALF_PRECISION, Stack, read_stack, start_from
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

NETWORK = CompactDenoiserConfig(channels=6, blocks=2, time_channels=4, num_steps=4)
CONFIG = OneStepConfig(
    network=NETWORK, phase=PhaseConfig(steps=4, batch=2, patch=8, lr=1e-3, warmup=1), late_batch=1, late_patch=10
)


def stack(width: int = 6, blocks: int = 2) -> Stack:
    """A random stack, exact in half precision."""
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> torch.Tensor:
        return (0.2 * torch.randn(shape, generator=generator)).half().float()

    sizes = [(width, 3), *[(width, width)] * blocks, (48, width)]
    return Stack([(draw(a, b, 3, 3), draw(a)) for a, b in sizes], [draw(width) for _ in range(blocks + 1)])


def write_stack(layers: Stack, folder: Path, *, flag: int = HALF_PRECISION) -> tuple[Path, Path]:
    """The stack as a pair of ncnn files."""
    lines, data = ["7767517", "9 9"], b""
    for index, (weight, bias) in enumerate(layers.convolutions):
        lines.append(f"Convolution Conv_{index} 1 1 a b 0={len(bias)} 1=3 4=1 5=1 6={weight.numel()}")
        half = weight.half().numpy().tobytes()
        data += struct.pack("<I", flag) + half + b"\0" * (-len(half) % 4) + bias.numpy().tobytes()
        if index < len(layers.slopes):
            lines.append(f"PReLU PRelu_{index} 1 1 b a 0={len(bias)}")
            data += layers.slopes[index].numpy().tobytes()
    param, binary = folder / "x.param", folder / "x.bin"
    param.write_text("\n".join([*lines, "PixelShuffle shuffle 1 1 a b 0=4"]), "utf-8")
    binary.write_bytes(data)
    return param, binary


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Smooth random pictures with their reductions."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (4, 3, 16, 16)))
    hr = F.interpolate(coarse, size=(320, 320), mode="bilinear").permute(0, 2, 3, 1)
    images = hr.numpy().astype(np.uint8)
    return Pool(images, np.stack([np.stack([degrade(image, CLEAN, rng)] * VARIANTS) for image in images]))


def test_a_stack_is_read_as_it_was_written(tmp_path: Path):
    written = stack()
    read = read_stack(*write_stack(written, tmp_path))
    for (weight, bias), (expected, offset) in zip(read.convolutions, written.convolutions, strict=True):
        assert torch.equal(weight, expected) and torch.equal(bias, offset)
    assert all(torch.equal(a, b) for a, b in zip(read.slopes, written.slopes, strict=True))


def test_files_of_another_kind_are_refused(tmp_path: Path):
    param, binary = write_stack(stack(), tmp_path, flag=0)
    with pytest.raises(ValueError, match="no half-precision"):
        read_stack(param, binary)
    param, binary = write_stack(stack(), tmp_path)
    binary.write_bytes(binary.read_bytes() + b"\0\0\0\0")
    with pytest.raises(ValueError, match="bytes, its convolutions and PReLU"):
        read_stack(param, binary)
    branched = stack()
    branched.convolutions[1] = (torch.zeros(6, 9, 3, 3), torch.zeros(6))
    with pytest.raises(ValueError, match="expected a plain stack"):
        read_stack(*write_stack(branched, tmp_path))
    with pytest.raises(ValueError, match="does not fit"):
        start_from(CompactDenoiser(NETWORK), stack(width=5))


def test_the_started_body_computes_the_stack_on_its_own_range():
    layers, model = stack(), CompactDenoiser(NETWORK)
    start_from(model, layers)
    model.silence()
    picture = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    h = picture
    for (weight, bias), slope in zip(layers.convolutions, layers.slopes):
        h = F.prelu(F.conv2d(h, weight, bias, padding=1), slope)
    t = torch.tensor([NETWORK.num_steps - 1])
    features = model.body_features(torch.zeros(1, 48, 20, 20), model.level(t), 2 * picture - 1)
    inner = (..., slice(4, -4), slice(4, -4))  # zeros outside of a picture are black for one and grey for the other
    torch.testing.assert_close(features[inner], h[inner])


def test_the_fitted_tail_is_the_one_that_made_the_truth():
    model = CompactDenoiser(NETWORK)
    start_from(model, stack())
    model.silence()
    truth = CompactDenoiser(NETWORK)
    truth.load_state_dict(model.state_dict())
    truth.tail.load_state_dict(dict(zip(("weight", "bias"), stack().convolutions[-1], strict=True)))

    class Made:
        def batch(self, generator: torch.Generator, size: int, patch: int) -> tuple[torch.Tensor, torch.Tensor]:
            lr = torch.rand(size, 3, patch, patch, generator=generator) * 2 - 1
            return codec.decode(call(truth, lr)), lr

    def call(network: CompactDenoiser, lr: torch.Tensor) -> torch.Tensor:
        y, schedule = upsampled_latent(lr), schedule_of(network)
        t = last_index(y, schedule)
        return network(scale_input(y, t, schedule), t, lr)

    fit_tail(model, Made(), 0, batches=2)
    lr = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(9)) * 2 - 1
    with torch.no_grad():
        error, residual = call(model, lr) - call(truth, lr), call(truth, lr) - upsampled_latent(lr)
    assert float(error.std()) < 0.02 * float(residual.std())  # the ridge keeps a little back


def test_two_and_two_steps_are_four_steps_bit_for_bit(pool: Pool, tmp_path: Path):
    config = replace(CONFIG, late=0.75)  # the last step of four is of the larger crops and of sharpness
    whole = run_one_step(config, pool, tmp_path / "whole", stack())
    run_one_step(config, pool, tmp_path / "parts", stack(), until=2)
    parts = run_one_step(config, pool, tmp_path / "parts", stack())
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    start = started(config, stack(), pool).state_dict()
    assert not torch.equal(start["body.0.weight"], whole["body.0.weight"])
    for silent in ("embed_latent.weight", "film.weight", "film.bias"):
        assert not whole[silent].any()


def test_a_run_goes_on_from_the_weights_of_an_earlier_one(pool: Pool, tmp_path: Path):
    path = tmp_path / "earlier.safetensors"
    export(run_one_step(CONFIG, pool, tmp_path / "first", stack()), path, CONFIG, "some photographs")
    earlier = load_file(path)
    begun = started(CONFIG, earlier, pool)
    assert all(torch.equal(value, earlier[name].float()) for name, value in begun.state_dict().items())
    learns = [name for name, value in begun.named_parameters() if value.requires_grad]
    assert not {"embed_latent.weight", "film.weight", "film.bias"} & set(learns)
    later = run_one_step(CONFIG, pool, tmp_path / "second", earlier)
    assert any(not torch.equal(later[name], earlier[name].float()) for name in learns)


def test_a_checkpoint_of_another_recipe_is_refused(pool: Pool, tmp_path: Path):
    run_one_step(CONFIG, pool, tmp_path, stack(), until=1)
    with pytest.raises(ValueError, match="another recipe"):
        run_one_step(replace(CONFIG, luma_share=0.1), pool, tmp_path, stack())


def test_what_is_exported_says_that_it_knows_one_step_and_where_it_comes_from(pool: Pool, tmp_path: Path):
    export(run_one_step(CONFIG, pool, tmp_path, stack()), tmp_path / "out.safetensors", CONFIG, "some photographs")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert float(file.get_tensor("one_step")) == 1
        assert file.get_tensor("head.weight").dtype == torch.float16
        assert file.get_tensor("sqrt_etas").dtype == torch.float32
        assert file.metadata()["training_data"] == "some photographs"


def test_the_foot_of_the_loss_is_constant_and_then_widens():
    config = OneStepConfig()
    steps = config.phase.steps
    assert foot(0, config) == foot(round(config.soft * steps), config) == config.eps
    assert foot(steps, config) == pytest.approx(config.widening * config.eps)


def test_a_mixture_draws_from_its_pools_by_their_shares(pool: Pool):
    dark = Pool(np.zeros_like(pool.hr), np.zeros_like(pool.lr))
    generator = torch.Generator().manual_seed(0)
    hr, _ = Mixture((pool, dark), (0.0, 1.0)).batch(generator, 6, 8)
    assert bool((hr == -1).all())
    hr, _ = Mixture((pool, dark), (0.75, 0.25)).batch(generator, 400, 8)
    assert float((hr == -1).all(dim=3).all(dim=2).all(dim=1).float().mean()) == pytest.approx(0.25, abs=0.08)


def test_the_clean_share_is_the_share_of_the_first_version(pool: Pool):
    versions = np.stack([np.full_like(pool.lr[:, 0], value) for value in (0, 85, 170, 255)], axis=1)
    for share in (0.0, 0.5, 0.9):
        _, lr = Pool(pool.hr, versions, share).batch(torch.Generator().manual_seed(0), 400, 8)
        assert float((lr == -1).float().mean()) == pytest.approx(share, abs=0.08)
        assert share > 0.5 or set(lr.unique().tolist()) > {1.0}


def test_photographs_and_cutouts_become_pairs_that_depend_on_the_seed_alone(tmp_path: Path):
    rng = np.random.default_rng(0)
    source = tmp_path / "source"
    source.mkdir()
    for name, side in (("large", 700), ("medium", 400), ("small", 100)):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(source / f"{name}.png")
    Image.new("RGBA", (200, 180), (255, 0, 0, 255)).save(source / "cut.png")
    whole, cutouts = photos.sorted_files(source)
    assert [path.stem for path in whole] == ["large", "medium"] and [path.stem for path in cutouts] == ["cut"]
    for name in ("a", "b"):
        photos.build_photo_pool(tmp_path / name, source, 3, 40)
    first, second = (Pool.open(tmp_path / name) for name in ("a", "b"))
    assert np.array_equal(first.hr, second.hr) and np.array_equal(first.lr, second.lr)
    red = (first.hr == (255, 0, 0)).all(-1).mean((1, 2)) > 0.01
    assert not red[:38].any() and red[38:].any()
    with pytest.raises(ValueError, match="no photograph"):
        photos.build_photo_pool(tmp_path / "c", _only(source / "small.png", tmp_path / "none"), 3, 10)


def _only(file: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_the_match_of_amplitudes_counts_where_it_has_a_weight(pool: Pool, tmp_path: Path):
    plain = run_one_step(CONFIG, pool, tmp_path / "plain", stack())
    matched = run_one_step(replace(CONFIG, amplitude=0.5), pool, tmp_path / "matched", stack())
    assert CONFIG.amplitude == 0.0
    assert not torch.equal(plain["tail.weight"], matched["tail.weight"])
