"""Dynamic timesteps with a checkpoint of the user's: no trained parts."""

from .parts import Link, Node, Workflow, note

ADADIFFSR_ANY_MODEL = Workflow(
    "adadiffsr_any_model",
    (
        note(
            "about",
            (40, 40),
            (380, 430),
            "Read me",
            "## Steps where the detail is\n\n1. Choose an SD 1.5 or SDXL checkpoint in **Load Checkpoint**.\n"
            "2. Choose your picture in **Load Image** and its new width in **Resize** (height 0 keeps the aspect).\n"
            "3. Say in **What it shows** what is there; press **Run**.\n\n"
            "Tiled Region Sampler works as in *tiled_region_upscale*, but **MMLE Gain Estimator** looks at every prediction: regions that "
            "stop changing take larger jumps. **Steps per region** shows where the steps went.\n\n"
            "Gains are measured: AdaDiffSR's trained parts exist for the embedded teacher only (*adadiffsr_embedded*), or for what you train "
            "them on.\n\n"
            "For SDXL set **tile_size** to 1024.",
        ),
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            (460, 40),
            (340, 100),
            {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
            title="Load Checkpoint",
        ),
        Node("load_image", "LoadImage", (460, 200), (340, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "resize",
            "ImageScale",
            (460, 600),
            (340, 140),
            {
                "image": Link("load_image"),
                "upscale_method": "lanczos",
                "width": 2048,
                "height": 0,
                "crop": "disabled",
            },
            title="Resize",
        ),
        Node(
            "positive",
            "CLIPTextEncode",
            (860, 40),
            (340, 130),
            {"clip": Link("checkpoint", 1), "text": "a sharp, detailed photograph"},
            title="What it shows",
        ),
        Node(
            "negative",
            "CLIPTextEncode",
            (860, 230),
            (340, 130),
            {"clip": Link("checkpoint", 1), "text": "blurry, noise, jpeg artifacts"},
            title="What it does not",
        ),
        Node("encode", "VAEEncode", (860, 420), (340, 60), {"pixels": Link("resize"), "vae": Link("checkpoint", 2)}),
        Node(
            "gain",
            "AdaptiveSRMMLEGainEstimator",
            (860, 540),
            (340, 220),
            {
                "reference": Link("encode"),
                "back_end": "latent",
                "tau": 0.005,
                "mode": "ladder",
                "metrics": "psnr, nlpd, sharpness",
                "intervals": "1, 2, 3, 4",
                "warmup": 2,
                "patience": 2,
                "t_half": 500.0,
                "t_sat_max": 0.0,
                "min_share": 0.1,
                "max_share": 1.0,
                "tail_guard": 0.0,
                "prior": 1.0,
            },
        ),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            (1260, 40),
            (340, 480),
            {
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "latent": Link("encode"),
                "gain": Link("gain"),
                "seed": 0,
                "steps": 24,
                "cfg": 6.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 0.35,
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        Node("decode", "VAEDecode", (1260, 580), (340, 60), {"samples": Link("sample"), "vae": Link("checkpoint", 2)}),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            (1260, 700),
            (340, 120),
            {"image": Link("decode"), "reference": Link("resize"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "save",
            "SaveImage",
            (1660, 40),
            (340, 340),
            {"images": Link("color"), "filename_prefix": "AdaptiveSR_adadiffsr"},
        ),
        Node(
            "compare",
            "ImageCompare",
            (2060, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("resize"), "image_b": Link("color")},
            title="Before | after",
        ),
        Node(
            "report",
            "AdaptiveSRRegionReport",
            (1660, 440),
            (340, 100),
            {"report": Link("sample", 2), "image": Link("color"), "opacity": 0.45},
        ),
        Node(
            "map",
            "PreviewImage",
            (1660, 600),
            (340, 340),
            {"images": Link("report")},
            title="Steps per region",
        ),
        note(
            "settings",
            (2060, 680),
            (480, 260),
            "What the settings do",
            "* **tau** is the change that counts as one: larger means fewer steps. Its default was set on small models; adjust it to "
            "yours with *Steps per region*.\n"
            "* **t_sat_max** 0: regions never end early, they only jump. With a true quality metric (*vae*, musiq) try 300.\n"
            "* **back_end** *latent* costs next to nothing; *vae* decodes every prediction.\n"
            "* **W** warmup, **G** growing, **S** stable, **H** falling, **X** ended: a letter for every call of a region.\n"
            "* *Upscale Plan* counts every step, so it is the most that a run with gains costs.",
        ),
    ),
)
