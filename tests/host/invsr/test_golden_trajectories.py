"""The host's Euler sampler with our NOISE and SIGMAS, on the golden file's stand-in for the network as a MODEL of the host."""

from pathlib import Path

import pytest
import torch
from adaptivesr.tools.golden.invsr import fake_eps
from adaptivesr.tools.golden.vectors import Golden

GOLDEN = Golden.load(Path(__file__).parents[2] / "golden" / "invsr" / "pipeline.safetensors")
SCALING = 0.18215
CASES = sorted({key.split(".")[0] for key in GOLDEN.tensors if key.endswith(".tau")})


class FakeUNet(torch.nn.Module):
    """What the host calls as the diffusion network."""

    dtype = torch.float32

    def forward(self, x, timesteps, context=None, **others):
        rows = [fake_eps(GOLDEN, x[i : i + 1], float(timesteps[i]), context[i : i + 1]) for i in range(len(x))]
        return torch.cat(rows)


@pytest.fixture(scope="module")
def model(base):
    made = base("SD20", "EPS", 1024)
    made.model.diffusion_model = FakeUNet()
    return made


def sampled(comfy, model, case, sampler):
    """((x, x0) of every step, final latent), in the scale of the file."""
    from comfy.samplers import CFGGuider

    invsr, start_noise = comfy.module("host.invsr.noise"), comfy.module("sampling.inversion").StartNoise
    predicted = GOLDEN[f"{case}.pred_noise"]
    noise = invsr.PredictedNoise(start_noise(predicted, torch.zeros_like(predicted)), 0, 1.0)
    latent = {"samples": GOLDEN["z_lr"] / SCALING}
    sigmas = invsr.start_sigmas(model, tuple(GOLDEN[f"{case}.tau"].tolist()))
    guider = CFGGuider(model)
    guider.set_conds([[GOLDEN["in.cond_pos"], {}]], [[GOLDEN["in.cond_neg"], {}]])
    guider.set_cfg(float(GOLDEN[f"{case}.cfg"]))
    seen = []
    with torch.inference_mode():
        result = guider.sample(
            noise.generate_noise(latent), latent["samples"], sampler, sigmas, disable_pbar=True, seed=noise.seed,
            callback=lambda step, x0, x, total: seen.append((x.clone(), x0.clone())),
        )  # fmt: skip
    return sigmas, seen, result * SCALING


def close(actual, expected):
    assert float((actual - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_the_hosts_euler_follows_the_golden_trajectory(comfy, model, case):
    from comfy.samplers import sampler_object

    sigmas, seen, final = sampled(comfy, model, case, sampler_object("euler"))
    close(sigmas, GOLDEN[f"{case}.sigmas"])
    close(seen[0][0], GOLDEN[f"{case}.latent_start"])
    states = [x for x, _ in seen[1:]] + [final]
    assert len(states) == len(sigmas) - 1
    for k, (state, (x, x0)) in enumerate(zip(states, seen)):
        close(state, GOLDEN[f"{case}.step{k}.latent_next"])
        close((x - x0) / sigmas[k], GOLDEN[f"{case}.step{k}.eps"])


@pytest.mark.parametrize("case", ["s1", "s3cfg", "s7arb"])
def test_the_region_sampler_does_so_too(comfy, model, case):
    sampler = comfy.module("host.regions.sampler")
    regions = sampler.RegionSampler(sampler.RegionOptions(128, 0))
    sigmas, _, final = sampled(comfy, model, case, regions)
    close(final, GOLDEN[f"{case}.step{len(sigmas) - 2}.latent_next"])
