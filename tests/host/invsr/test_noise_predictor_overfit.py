"""Train Noise Predictor learns four pictures by heart, through the host's own UNet and autoencoder."""

import pytest
import torch
from torch.nn import functional as F

STEPS = 90


def soft_pictures():
    """Four pictures of soft patches, (4, 3, 64, 64) in [0, 1]."""
    cells = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(4))
    return F.interpolate(cells, size=64, mode="bicubic").clamp(0, 1)


class Held:
    """The same four pictures and the same small ones at every step."""

    def __init__(self, source):
        self.pair = source.batch(torch.Generator().manual_seed(3), 4)

    def batch(self, generator, size):
        return tuple(side[:size] for side in self.pair)


@pytest.mark.slow
def test_four_pictures_are_learnt_tenfold_through_the_frozen_unet(comfy, checkpoint, prompt, tmp_path):
    """Noise is drawn anew in every step: what is learnt is the distribution of the start, its spread too."""
    module = comfy.module
    config = module("training.invsr.config").InvSRConfig(
        batch=4, lr=1e-3, warmup=0, lpips_weight=0.0, adversarial_weight=0.0, taus=(200,), ema_decay=0.9
    )
    host, runs = module("host.training.invsr_base"), module("training.invsr.run")
    predictor_config = module("training.invsr.sizes").PREDICTORS["small"]
    preset = module("imaging.degradation.presets").PRESETS["invsr"]
    source = Held(module("training.data").DegradedPairs(list(soft_pictures()), 64, preset, predictor_config.scale))
    with torch.no_grad():
        base = host.turbo_of(*checkpoint, torch.float32, checkpointing=False)
    predictor = runs.fresh_predictor(predictor_config, torch.Generator().manual_seed(5))
    text = prompt[0][0]
    run = runs.InvSRRun(runs.invsr_state(config, predictor, None), config, base, source, text, None)
    frozen = {key: value.clone() for network in base.networks() for key, value in network.state_dict().items()}
    pictures = [shown(module, run, source.pair)]
    module("training.runs").train(run, STEPS)
    pictures.append(shown(module, run, source.pair))
    module("host.training.files").save_picture(tmp_path / "before_and_after.png", torch.cat(pictures, dim=2))
    losses = [row["mse"] for _, row in run.log.rows]
    assert sum(losses[-5:]) / 5 < losses[0] / 10
    for network in base.networks():
        assert all(torch.equal(frozen[key], value) for key, value in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())


def shown(module, run, pair):
    """LR, one step from the start, truth, (1, 3, H, W): what the node's samples are."""
    sheets, hr, lr = module("training.sheets"), *pair
    made = module("training.invsr.run").sample_starts(run, hr, lr, torch.Generator().manual_seed(1))
    return sheets.sheet(sheets.Trial(lr.clamp(0, 1), hr, made, {}))
