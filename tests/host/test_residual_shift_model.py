"""The ResShift family as MODEL and VAE of the host."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from adaptivesr.imaging.resize import bicubic_upsample
from adaptivesr.sampling.schedules import residual_shift_schedule
from adaptivesr.tools.small_models.tiny import TEACHER
from safetensors import safe_open

CHAINS = Path(__file__).parents[1] / "golden" / "tad_sr" / "chains.safetensors"


@dataclasses.dataclass(frozen=True)
class FakeConfig:
    latent_channels: int = 3
    lq_factor: int = 1
    size_multiple: int = 1


class FakeNetwork(torch.nn.Module):
    """The analytic predictor of the golden file: a tanh(b u) + c t."""

    config = FakeConfig()

    def forward(self, x, timesteps, lq):
        a, b, c = 0.8, 1.5, 0.02
        return a * torch.tanh(b * x) + c * timesteps.view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def golden():
    with safe_open(CHAINS, "pt") as file:
        assert "0.8, 1.5, 0.02" in json.loads(file.metadata()["config"])["fake_predictor"]
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def sample(comfy, patcher, positive, latent, noise, sampler="euler", steps=None, states=None):
    import comfy.sample
    import comfy.samplers

    sigmas = torch.cat([patcher.get_model_object("model_sampling").sigmas.flip(0), torch.zeros(1)])
    if steps is not None:
        sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", steps)

    def callback(step, x0, x, total):
        if states is not None:
            states.append((step, x0.clone(), x.clone()))

    with torch.inference_mode():
        return comfy.sample.sample_custom(
            patcher, noise, 1.0, comfy.samplers.ksampler(sampler), sigmas, positive, positive, latent,
            callback=callback, disable_pbar=True, seed=0,
        )  # fmt: skip


def test_the_hosts_euler_is_sinsrs_deterministic_chain(comfy, golden):
    host = comfy.module("host.resshift.patchers")
    schedule = residual_shift_schedule(clip_start=True)
    network = FakeNetwork()
    model = host.ResidualShiftModel(network, schedule, torch.float32, 4)
    patcher = comfy.module("host.loading").network_patcher(network, {}, model=model)
    y = bicubic_upsample(golden["in.y_lr"], 4)
    values = {"concat_latent_image": y, host.LR_CONDITION: torch.zeros_like(y)}
    states = []
    result = sample(comfy, patcher, [[torch.zeros(1, 1, 8), values]], y, golden["in.noise"], states=states)
    torch.testing.assert_close(result, golden["out.ddim_states"][-1], atol=1e-5, rtol=0)
    for step, x0, _ in states:
        torch.testing.assert_close(x0, golden["out.ddim_pred_xstart"][step], atol=1e-5, rtol=0)
    # the state before step i is x_t in the coordinates u = (x - eta y) / (1 - eta)
    for step, _, u in states[1:]:
        eta = float(schedule.etas[schedule.num_steps - 1 - step])
        x = (1 - eta) * u.double() + eta * y
        torch.testing.assert_close(x.float(), golden["out.ddim_states"][step - 1], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def sr(comfy):
    return comfy.module("host.resshift.loading").load_one_step(TEACHER)


@pytest.fixture
def graph(comfy, sr):
    """Conditioning and latent of an image, as the nodes make them."""

    def make(image):
        with torch.inference_mode():
            empty = comfy.node("AdaptiveSREmptyPrompt").execute(sr.patcher).args[0]
            positive, _, latent = comfy.node("AdaptiveSRResShiftConditioning").execute(sr, empty, empty, image).args
        return positive, latent["samples"]

    return make


def test_the_model_socket_gives_what_the_node_gives(comfy, sr, graph):
    image = torch.rand(1, 19, 26, 3, generator=torch.Generator().manual_seed(0))
    positive, latent = graph(image)
    noise = comfy.module("sampling.noise").gaussian_field(latent.shape[1:], seed=5)[None]
    with torch.inference_mode():
        decoded = sr.vae.decode(sample(comfy, sr.patcher, positive, latent, noise))
        node = comfy.node("AdaptiveSROneStepDistilledSR")
        expected = node.execute(sr, image, 4.0, 0, 0, 0, 5, "none", 256, 0, 0, "deterministic").args[0]
    torch.testing.assert_close(decoded, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral"])
def test_other_samplers_of_the_host_run(comfy, sr, graph, sampler):
    positive, latent = graph(torch.rand(2, 8, 9, 3))
    result = sample(comfy, sr.patcher, positive, latent, torch.randn(latent.shape), sampler, steps=4)
    assert result.shape == latent.shape and torch.isfinite(result).all()


def test_sampling_without_the_lr_image_says_what_to_connect(comfy, sr):
    with pytest.raises(ValueError, match="ResShift Conditioning"):
        sample(comfy, sr.patcher, [[torch.zeros(1, 1, 8), {}]], torch.zeros(1, 48, 8, 8), torch.zeros(1, 48, 8, 8))


def test_a_latent_of_another_size_is_named(comfy, sr, graph):
    positive, _ = graph(torch.rand(1, 8, 8, 3))
    with pytest.raises(ValueError, match=r"\(8, 8\) cells.*\(9, 8\)"):
        sample(comfy, sr.patcher, positive, torch.zeros(1, 48, 9, 8), torch.zeros(1, 48, 9, 8))


def test_the_vae_encodes_and_decodes_through_the_hosts_methods(sr):
    image = torch.rand(2, 32, 24, 3)
    with torch.inference_mode():
        latent = sr.vae.encode(image)
        assert latent.shape == (2, 48, 8, 6)
        torch.testing.assert_close(sr.vae.decode(latent), image, atol=1e-5, rtol=0)
        torch.testing.assert_close(sr.vae.decode_tiled(latent, 4, 4, 1), image, atol=1e-5, rtol=0)


def test_sigmas_and_times_of_the_model_are_inverse(sr):
    sampling = sr.patcher.get_model_object("model_sampling")
    times = torch.tensor([0.0, 0.5, 7.25, 14.0])
    torch.testing.assert_close(sampling.timestep(sampling.sigma(times)), times, atol=1e-3, rtol=0)
    assert sampling.percent_to_sigma(1.0) == 0.0
    assert sampling.percent_to_sigma(0.001) < sampling.percent_to_sigma(0.0)


def test_a_clone_samples_as_the_original_and_can_be_copied_deeply(comfy, sr, graph):
    positive, latent = graph(torch.rand(1, 8, 8, 3))
    noise = torch.randn(latent.shape)
    expected = sample(comfy, sr.patcher, positive, latent, noise)
    assert torch.equal(sample(comfy, sr.patcher.clone(), positive, latent, noise), expected)
    deep = sr.patcher.clone(force_deepcopy=True)
    assert deep.model is not sr.patcher.model
    torch.testing.assert_close(sample(comfy, deep, positive, latent, noise), expected, atol=1e-6, rtol=0)


def test_masked_attention_is_never_left_to_a_kernel_without_masks(comfy, monkeypatch):
    loading = comfy.module("host.loading")

    def without_masks(q, k, v, heads, mask=None, **options):
        assert mask is None
        return torch.full_like(q, 7.0)

    monkeypatch.setattr(loading, "optimized_attention", without_masks)
    q, k, v = torch.randn(3, 2, 2, 5, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    bias = torch.tensor([0.0, -50.0, -50.0, -50.0, -50.0]).expand(1, 1, 5, 5)
    masked = loading.host_attention(q, k, v, bias)
    torch.testing.assert_close(masked, v[:, :, :1].expand_as(v), atol=1e-5, rtol=0)
    assert (loading.host_attention(q, k, v) == 7.0).all(), "without a mask the host's choice"


def test_codes_are_searched_in_float32_whatever_the_decoder_computes_in(comfy, monkeypatch):
    patchers, upscale = comfy.module("host.resshift.patchers"), comfy.module("host.resshift.upscale")
    vq = comfy.module("models.vq_autoencoder")
    config = vq.VQConfig(32, (32,), (1,), image_channels=3, z_channels=3, latent_channels=3, codes=512)
    network = vq.VQAutoencoder(config, operations=comfy.module("host.loading").OPERATIONS)
    draw = torch.Generator().manual_seed(0)
    weights = {key: torch.randn(value.shape, generator=draw) for key, value in network.state_dict().items()}
    monkeypatch.setattr(patchers.mm, "vae_dtype", lambda *_: torch.bfloat16)
    vae = patchers.ResidualShiftVAE(network, weights)
    monkeypatch.setattr(network, "decode", lambda z, quantize: z)
    latent = torch.randn(1, 3, 32, 32, generator=draw)
    decoded = upscale.HostAutoencoder(vae).decode(latent)
    cells, codes = latent.movedim(1, -1).reshape(-1, 3), weights["quantize.embedding.weight"]
    nearest = codes[torch.cdist(cells, codes).argmin(1)].reshape(1, 32, 32, 3).movedim(-1, 1)
    torch.testing.assert_close(decoded, nearest.bfloat16().float(), atol=0, rtol=0)
