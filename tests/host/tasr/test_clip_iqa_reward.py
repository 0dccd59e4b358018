"""The paper's rewards with random weights. It needs no host; pyiqa is slow to import, so it is not in the inner loop."""

import pytest
import torch
from adaptivesr.training.tasr import rewards


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_pyiqas_clip_iqa_is_differentiable_and_frozen(tmp_path):
    """pyiqa's own code with a small CLIP of random weights."""
    from pyiqa.archs.clip_model import CLIP

    torch.manual_seed(0)
    network = CLIP(
        embed_dim=32, image_resolution=64, vision_layers=(1, 1, 1, 1), vision_width=16, vision_patch_size=None,
        context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1, transformer_layers=1,
    )  # fmt: skip
    example = torch.rand(1, 3, 64, 64), torch.zeros(1, 77, dtype=torch.long)
    torch.jit.trace(network.eval(), example, check_trace=False).save(tmp_path / "small.pt")  # as CLIP's own file is
    reward = rewards.clip_iqa(tmp_path / "small.pt", torch.device("cpu"))
    picture = torch.rand(2, 3, 64, 64, requires_grad=True)
    value = reward(picture, torch.zeros(2, 3, 64, 64))
    value_range = value.detach()
    assert value.shape == (2,) and value_range.min() > 0 and value_range.max() < 1
    value.sum().backward()
    assert picture.grad.abs().sum() > 0


SMALL = {
    "MUSIQ": {"num_layers": 1},
    "MANIQA": {"embed_dim": 64, "depths": [1, 1], "num_heads": [1, 1], "dim_mlp": 64, "num_tab": 1},
}


@pytest.mark.parametrize(("name", "best"), [("MUSIQ", 100.0), ("MANIQA", 1.0)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pyiqas_other_metrics_load_without_unpickling_or_fetching_and_are_differentiable(
    tmp_path, monkeypatch, name, best
):
    """pyiqa's own networks, smaller and with random weights, written as their published files are."""
    import timm

    torch.manual_seed(0)
    create, asked = timm.create_model, []

    def small_backbone(model, *, pretrained, **more):
        asked.append(pretrained)
        return create(model, pretrained=pretrained, embed_dim=64, depth=10, num_heads=2, **more)

    monkeypatch.setattr(timm, "create_model", small_backbone)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    named = rewards.NAMED[name]
    monkeypatch.setitem(rewards.NAMED, name, rewards.NamedReward(named.file, best, {**named.options, **SMALL[name]}))
    weights = rewards.bare_network(name.lower(), rewards.NAMED[name].options).state_dict()
    if name == "MANIQA":
        weights["fc_score.3.bias"].fill_(0.5)  # a fresh one may give 0 everywhere
    (tmp_path / "hub" / "pyiqa").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "pyiqa" / named.file)
    reward = rewards.make_reward(name, torch.device("cpu"))
    assert timm.create_model is small_backbone and not any(asked) and bool(asked) == (name == "MANIQA")
    picture = torch.rand(1, 3, 224, 224, requires_grad=True)
    value = reward(picture, picture)
    assert value.shape == (1,) and float(value.detach()) != 0
    value.sum().backward()
    assert picture.grad.abs().sum() > 0
