"""InvSR with SD-Turbo: in one node and one step, and in five steps with ComfyUI's own sampler nodes."""

from ...sampling.tiled.invsr import NEGATIVE, POSITIVE
from .parts import (
    SD_TURBO,
    File,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    color_fix,
    compare,
    decode,
    encode,
    enlarge_four_times,
    files_list,
    picture,
    prompt,
    sample_custom,
    save,
    settings,
    takes,
    whole_cells,
)

PREDICTOR = File(
    "Load Noise Predictor",
    "noise_predictor_sd_turbo_v5.pth",
    "OAOA/InvSR",
    "https://huggingface.co/OAOA/InvSR",
    "adaptivesr/noise_predictor",
)
FILES = (
    files_list(SD_TURBO, PREDICTOR)
    + "\n\nSD Turbo has a licence of its own, Stability AI's. The predictor is S-Lab License 1.0: **not for commercial use**."
)
INPUTS = (
    checkpoint(SD_TURBO),
    Node("predictor", "AdaptiveSRLoadNoisePredictor", inputs={"model_name": PREDICTOR.name}),
    picture(),
    prompt("positive", POSITIVE, "Published prompt", 150),
    prompt("negative", NEGATIVE, "Published negative prompt", 150),
)

INVSR = Workflow(
    "invsr",
    (
        about(
            "## InvSR: x4 in one step\n\n1. Put the two files in place.\n2. Choose your picture, best below about "
            "512 pixels: reduce larger ones first.\n3. Press **Run**.\n\n**You get** it four times larger, with new fine detail.\n\n"
            + takes("256 to 1024 pixels", cpu="about a minute", gpu="about a second")
            + "\n\nChange first: **steps**.\n\n"
            + FILES
        ),
        *INPUTS,
        Node(
            "upscale",
            "AdaptiveSRInvSRUpscale",
            inputs={
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "vae": Link("checkpoint", 2),
                "noise_predictor": Link("predictor"),
                "image": Link("load_image"),
                "steps": 1,
                "taus": "",
                "seed": 0,
                "strength": 1.0,
                "cfg": 1.0,
                "color_fix": "wavelet",
                "mode": "latent regions",
                "patch_size": 0,
                "overlap": 32,
                "patch_batch": 0,
            },
        ),
        save("upscale", "AdaptiveSR_invsr"),
        compare("load_image", "upscale"),
        settings(
            "* **steps** 1 for noisy pictures, 3 to 5 for blurred ones.\n"
            "* **taus** your own steps; `250` is sharper, `100` more faithful and kinder to skin.\n"
            "* **cfg** above 1 follows the prompts and takes twice the time.\n"
            "* **patch_size** 256 sees more context.\n"
            "* **mode** *pixel chop* is the reference's order: slower, for comparison.\n"
            "* Another scale than x4: resize the picture first."
        ),
    ),
    title="InvSR, one step",
    title_zh="InvSR 单步",
)

INVSR_STEPS = Workflow(
    "invsr_steps",
    (
        about(
            "## InvSR in parts: five steps with ComfyUI's sampler\n\n**InvSR Noise** predicts the noise that *Sample* "
            "starts with, from the small picture. The enlarged picture must be *bicubic* x4 of the same one.\n\n"
            "1. Put the two files in place.\n2. Choose your picture, best below about 512 pixels.\n3. Press **Run**.\n\n"
            + takes("256 to 1024 pixels", cpu="about 2 minutes", gpu="about 3 seconds")
            + "\n\nChange first: **steps** of *InvSR Noise*.\n\n"
            + FILES
        ),
        *INPUTS,
        enlarge_four_times(),
        encode("pad"),
        Node(
            "noise",
            "AdaptiveSRInvSRNoise",
            inputs={
                "noise_predictor": Link("predictor"),
                "model": Link("checkpoint"),
                "lr_image": Link("load_image"),
                "lr_latent": Link("encode"),
                "steps": 5,
                "taus": "",
                "seed": 0,
                "strength": 1.0,
                "patch_size": 128,
                "overlap": 32,
                "patch_batch": 0,
            },
        ),
        Node(
            "guider",
            "CFGGuider",
            inputs={
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "cfg": 1.0,
            },
        ),
        Node(
            "regions",
            "AdaptiveSRRegionSampler",
            inputs={
                "sampler_name": "euler",
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        sample_custom(Link("noise", 0), Link("regions"), Link("noise", 1), Link("noise", 2)),
        decode(Link("sample")),
        color_fix("crop", "load_image"),
        save("color", "AdaptiveSR_invsr"),
        compare("load_image", "color"),
        settings(
            "* **Region Sampler** cuts large latents; *KSamplerSelect* with euler does the same in one frame.\n"
            "* Samplers that add noise (ancestral, sde) do not fit: the noise is predicted.\n"
            "* **cfg** above 1 follows the prompts and takes twice the time.\n"
            "* **taus** takes a list of your own, for example `200, 100`."
        ),
        *whole_cells("enlarge"),
    ),
    title="InvSR, five steps in parts",
    title_zh="InvSR 五步（分步节点）",
)
