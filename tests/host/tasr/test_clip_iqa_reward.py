"""The paper's reward with a small CLIP of random weights. It needs no host; pyiqa is slow to import, so it is not in the inner loop."""

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
