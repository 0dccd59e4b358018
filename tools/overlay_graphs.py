"""Graphs with a region map that need neither a checkpoint nor a text encoder, in API form with numbers as ids."""

TILED, ONE_STEP, CUSTOM = "AdaptiveSRTiledRegionSampler", "AdaptiveSROneStepDistilledSR", "AdaptiveSRRegionSampler"
TEACHER, STUDENT = "embedded: teacher, 15 steps", "embedded: one step"


def load(picture, weights):
    """Nodes 1 and 2: weights and a picture."""
    options = {"model_name": weights, "autoencoder": "auto", "preset": "auto"}
    return {
        "1": {"class_type": "AdaptiveSRLoadOneStepSR", "inputs": options},
        "2": {"class_type": "LoadImage", "inputs": {"image": picture}},
    }


def tiled(picture, weights=TEACHER, *, gain=True, **inputs):
    """The embedded teacher sampled region by region, node 5; with gains of node 6; the report is shown by node 7."""
    prompt = load(picture, weights)
    prompt["3"] = {"class_type": "AdaptiveSREmptyPrompt", "inputs": {"model": ["1", 1]}}
    conditions = {"one_step_sr": ["1", 0], "positive": ["3", 0], "negative": ["3", 0], "image": ["2", 0]}
    prompt["4"] = {"class_type": "AdaptiveSRResShiftConditioning", "inputs": conditions}
    prompt["5"] = {
        "class_type": TILED,
        "inputs": {
            "model": ["1", 1], "positive": ["4", 0], "negative": ["4", 1], "latent": ["4", 2],
            "seed": 0, "steps": 15, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            "tile_size": 128, "overlap": 32, "merge_mode": "consensus", "region_batch": 1, **inputs,
        },
    }  # fmt: skip
    if gain:
        prompt["6"] = {"class_type": "AdaptiveSRMMLEGainEstimator", "inputs": GAIN}
        prompt["5"]["inputs"]["gain"] = ["6", 0]
    prompt["7"] = {"class_type": "PreviewAny", "inputs": {"source": ["5", 2]}}
    return prompt


GAIN = {
    "back_end": "proxies", "tau": 0.005, "mode": "ladder", "metrics": "psnr, nlpd, sharpness", "intervals": "1, 2, 3, 4",
    "warmup": 2, "patience": 2, "t_half": 500.0, "t_sat_max": 0.0, "min_share": 0.1, "max_share": 1.0, "tail_guard": 0.0,
}  # fmt: skip


def one_step(picture, weights=STUDENT, **inputs):
    """One-Step Distilled SR, node 5; the report is shown by node 7."""
    prompt = load(picture, weights)
    prompt["5"] = {
        "class_type": ONE_STEP,
        "inputs": {
            "one_step_sr": ["1", 0], "image": ["2", 0], "scale": 4.0, "width": 0, "height": 0, "steps": 0, "seed": 0,
            "color_fix": "none", "tile": 32, "overlap": 8, "tile_batch": 1, "chain": "stochastic", **inputs,
        },
    }  # fmt: skip
    prompt["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}}
    prompt["7"] = {"class_type": "PreviewAny", "inputs": {"source": ["5", 1]}}
    return prompt


def custom(picture, weights=TEACHER, **inputs):
    """Region Sampler, node 8, as the SAMPLER of node 5."""
    prompt = tiled(picture, weights)
    options = {name: prompt["5"]["inputs"][name] for name in ("sampler_name", "tile_size", "overlap", "merge_mode")}
    prompt["8"] = {"class_type": CUSTOM, "inputs": {**options, "region_batch": 1, "gain": ["6", 0], **inputs}}
    prompt["9"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 0}}
    prompt["10"] = {"class_type": "BasicGuider", "inputs": {"model": ["1", 1], "conditioning": ["4", 0]}}
    levels = {"model": ["1", 1], "scheduler": "simple", "steps": 15, "denoise": 1.0}
    prompt["11"] = {"class_type": "BasicScheduler", "inputs": levels}
    links = {"noise": ["9", 0], "guider": ["10", 0], "sampler": ["8", 0], "sigmas": ["11", 0], "latent_image": ["4", 2]}
    prompt["5"] = {"class_type": "SamplerCustomAdvanced", "inputs": links}
    prompt["7"] = {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}}
    prompt["12"] = {"class_type": "PreviewImage", "inputs": {"images": ["7", 0]}}
    return prompt
