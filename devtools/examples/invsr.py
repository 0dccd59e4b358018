"""InvSR with SD-Turbo: in one node and one step, and in five steps with ComfyUI's own sampler nodes."""

from ...pipelines.invsr import NEGATIVE, POSITIVE
from .parts import Link, Node, Workflow, note

FILES = (
    "**Files** (nothing is downloaded for you)\n\n"
    "* `sd_turbo.safetensors` from *stabilityai/sd-turbo* into `models/checkpoints`. Its licence is Stability AI's own.\n"
    "* `noise_predictor_sd_turbo_v5.pth` from *OAOA/InvSR* into `models/adaptivesr/noise_predictor`. S-Lab License 1.0: "
    "non-commercial use only.\n\nThen press R and choose them in the two loaders."
)


def loaders() -> tuple[Node, ...]:
    """Checkpoint, predictor, picture and the published prompts."""
    return (
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            (460, 40),
            (340, 100),
            {"ckpt_name": "sd_turbo.safetensors"},
            title="Load SD-Turbo",
        ),
        Node(
            "predictor",
            "AdaptiveSRLoadNoisePredictor",
            (460, 200),
            (340, 100),
            {"model_name": "noise_predictor_sd_turbo_v5.pth"},
        ),
        Node("load_image", "LoadImage", (460, 360), (340, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "positive",
            "CLIPTextEncode",
            (860, 40),
            (340, 150),
            {"clip": Link("checkpoint", 1), "text": POSITIVE},
            title="Published prompt",
        ),
        Node(
            "negative",
            "CLIPTextEncode",
            (860, 250),
            (340, 150),
            {"clip": Link("checkpoint", 1), "text": NEGATIVE},
            title="Published negative prompt (cfg above 1)",
        ),
    )


def ending(left: int, image: str) -> tuple[Node, ...]:
    """What is done with the result of the node `image`."""
    return (
        Node(
            "save", "SaveImage", (left, 40), (340, 340), {"images": Link(image), "filename_prefix": "AdaptiveSR_invsr"}
        ),
        Node(
            "compare",
            "ImageCompare",
            (left + 400, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("load_image"), "image_b": Link(image)},
            title="Before | after",
        ),
    )


INVSR = Workflow(
    "invsr",
    (
        note(
            "about",
            (40, 40),
            (380, 460),
            "Read me",
            "## InvSR: x4 in one step\n\n1. Put the two files in place.\n2. Choose your picture in **Load Image**, best below about "
            "512 pixels: reduce larger ones first.\n3. Press **Run**.\n\n" + FILES,
        ),
        *loaders(),
        Node(
            "upscale",
            "AdaptiveSRInvSRUpscale",
            (1260, 40),
            (360, 480),
            {
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
                "patch_size": 128,
                "overlap": 32,
                "patch_batch": 0,
            },
        ),
        *ending(1680, "upscale"),
        note(
            "settings",
            (860, 460),
            (340, 320),
            "What the settings do",
            "* **steps** 1 for noisy pictures, 3 to 5 for blurred ones.\n"
            "* **taus** your own steps; `250` is sharper, `100` more faithful and kinder to skin.\n"
            "* **cfg** above 1 follows the prompts and takes twice the time.\n"
            "* **patch_size** 256 sees more context.\n"
            "* **mode** *pixel chop* is the reference's order: slower, for comparison.\n"
            "* Another scale than x4: resize the picture first.",
        ),
    ),
)

INVSR_STEPS = Workflow(
    "invsr_steps",
    (
        note(
            "about",
            (40, 40),
            (380, 520),
            "Read me",
            "## InvSR in parts: five steps with ComfyUI's sampler\n\n**InvSR Noise** predicts the noise that *SamplerCustomAdvanced* "
            "starts with, from the small picture. The enlarged picture must be *bicubic* x4 of the same one.\n\n**Region Sampler** cuts "
            "large latents; *KSamplerSelect* with euler does the same in one frame. Samplers that add noise (ancestral, sde) do not fit.\n\n"
            "VAE Encode crops to whole latent cells, so odd sides lose 4 pixels of the result; *InvSR Upscale* of the workflow `invsr` keeps "
            "every size.\n\n" + FILES,
        ),
        *loaders(),
        Node(
            "enlarge",
            "ImageScaleBy",
            (860, 460),
            (340, 100),
            {"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0},
            title="Enlarge x4, bicubic",
        ),
        Node("encode", "VAEEncode", (860, 620), (340, 60), {"pixels": Link("enlarge"), "vae": Link("checkpoint", 2)}),
        Node(
            "noise",
            "AdaptiveSRInvSRNoise",
            (1260, 40),
            (340, 340),
            {
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
            (1260, 440),
            (340, 120),
            {
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "cfg": 1.0,
            },
        ),
        Node(
            "regions",
            "AdaptiveSRRegionSampler",
            (1260, 620),
            (340, 200),
            {
                "sampler_name": "euler",
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        Node(
            "sample",
            "SamplerCustomAdvanced",
            (1660, 40),
            (320, 140),
            {
                "noise": Link("noise", 0),
                "guider": Link("guider"),
                "sampler": Link("regions"),
                "sigmas": Link("noise", 1),
                "latent_image": Link("noise", 2),
            },
        ),
        Node("decode", "VAEDecode", (1660, 240), (320, 60), {"samples": Link("sample"), "vae": Link("checkpoint", 2)}),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            (1660, 360),
            (320, 140),
            {"image": Link("decode"), "reference": Link("load_image"), "mode": "wavelet", "levels": 5},
        ),
        *ending(2040, "color"),
    ),
)
