"""The region sampler with a checkpoint of the user's."""

from .parts import Link, Node, Workflow, note

TILED_REGION_UPSCALE = Workflow(
    "tiled_region_upscale",
    (
        note(
            "about",
            (40, 40),
            (380, 400),
            "Read me",
            "## Upscale with your own checkpoint\n\n1. Choose an SD 1.5 or SDXL checkpoint in **Load Checkpoint**.\n"
            "2. Choose your picture in **Load Image** and its new width in **Resize** (height 0 keeps the aspect).\n3. Say in **What it shows** what is there; press **Run**.\n\n"
            "The enlarged picture is encoded, given a third of the noise, and sampled region by region. **denoise** 0.2 keeps the picture, "
            "0.5 invents freely.\n\nFor SDXL set **tile_size** to 1024. ControlNets (tile, depth, lines) go between the prompts and the sampler "
            "with *Apply ControlNet*: their hints are cropped to each region.",
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
            "sample",
            "AdaptiveSRTiledRegionSampler",
            (1260, 40),
            (340, 460),
            {
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "latent": Link("encode"),
                "seed": 0,
                "steps": 20,
                "cfg": 6.0,
                "sampler_name": "dpmpp_2m",
                "scheduler": "karras",
                "denoise": 0.35,
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        Node("decode", "VAEDecode", (1260, 560), (340, 60), {"samples": Link("sample"), "vae": Link("checkpoint", 2)}),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            (1260, 680),
            (340, 120),
            {"image": Link("decode"), "reference": Link("resize"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "save",
            "SaveImage",
            (1660, 40),
            (340, 340),
            {"images": Link("color"), "filename_prefix": "AdaptiveSR_tiled"},
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
            (860, 540),
            (340, 300),
            "What the settings do",
            "* **tile_size** is the size the model was trained on; **overlap** hides seams.\n"
            "* **merge_mode** *consensus*: neighbours agree after every call.\n"
            "* **budget** takes a mask: white regions get all steps, black ones a single one.\n"
            "* **region_batch** 0 asks ComfyUI how many regions fit into memory at once.\n"
            "* **Upscale Plan** counts calls and memory before you run.\n"
            "* When decoding runs out of memory, use *VAE Decode (Tiled)*.",
        ),
    ),
)
