"""The way from the node to the network and to the equation is short enough to read."""

import torch
from adaptivesr.tools.env.tracing import stacks


def test_at_most_eight_functions_lie_between_the_region_sampler_with_gains_and_the_network(comfy, patcher, prompts):
    estimator, node = comfy.node("AdaptiveSRMMLEGainEstimator"), comfy.node("AdaptiveSRTiledRegionSampler")
    values = {entry.id: entry.default for entry in estimator.define_schema().inputs if not entry.optional}
    gain = estimator.execute(**{**values, "back_end": "proxies"}).args[0]
    latent = {"samples": torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(3))}
    choices = {"sampler_name": "euler", "scheduler": "normal", "denoise": 0.6, "merge_mode": "consensus"}
    model = patcher("eps")
    network, equation = type(model.model.diffusion_model).forward.__code__, "steppers.py"

    def is_goal(code):
        return code is network or (code.co_name == "euler" and code.co_filename.endswith(equation))

    with torch.inference_mode(), stacks(is_goal) as found:
        node.execute(
            model,
            prompts(1),
            prompts(2),
            latent,
            seed=5,
            steps=4,
            cfg=3.0,
            tile_size=128,
            overlap=32,
            gain=gain,
            **choices,
        )
    to_network = [stack for stack in found if not stack[-1].endswith("steppers.py:euler")]
    to_equation = [stack for stack in found if stack[-1].endswith("steppers.py:euler")]
    assert to_network and to_equation
    assert all(stack[0] == "nodes/region.py:execute" and len(stack) <= 8 for stack in found), found
