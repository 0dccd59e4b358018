"""TASR with its published weights, and its idea without any with the ControlNet that the user has."""

from .parts import Link, Node, Workflow, note

NEGATIVE = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"


def apply_control(control: str, image: str, pos: tuple[int, int], checkpoint: str | None = None) -> Node:
    """The host's own Apply ControlNet between the prompts and the sampler; with a VAE where the control reads latents."""
    vae = {"vae": Link(checkpoint, 2)} if checkpoint else {}
    return Node(
        "apply",
        "ControlNetApplyAdvanced",
        pos,
        (340, 190),
        {
            "positive": Link("positive"),
            "negative": Link("negative"),
            "control_net": Link(control),
            "image": Link(image),
            "strength": 1.0,
            "start_percent": 0.0,
            "end_percent": 1.0,
            **vae,
        },
    )


def adapter(pos: tuple[int, int], control: Link, schedule: str, **more: Link) -> Node:
    """The node, with the numbers of its default preset."""
    return Node(
        "adapter",
        "AdaptiveSRTimeAwareAdapter",
        pos,
        (340, 290),
        {
            "control_net": control,
            "schedule": schedule,
            "preset": "off_late",
            "s_lo": 0.0,
            "t_off": 200.0,
            "t_on": 400.0,
            "per_site": False,
            "alpha_max": 0.0,
            **more,
        },
    )


def resize(pos: tuple[int, int], method: str, width: int) -> Node:
    return Node(
        "resize",
        "ImageScale",
        pos,
        (340, 140),
        {"image": Link("load_image"), "upscale_method": method, "width": width, "height": 0, "crop": "disabled"},
        title="Enlarge",
    )


def results(sampled: Link, left: int, prefix: str) -> tuple[Node, ...]:
    """Decode, colours, file, comparison and map, in columns from `left`."""
    return (
        Node("decode", "VAEDecode", (left, 40), (340, 60), {"samples": sampled, "vae": Link("checkpoint", 2)}),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            (left, 160),
            (340, 120),
            {"image": Link("decode"), "reference": Link("resize"), "mode": "wavelet", "levels": 5},
        ),
        Node("save", "SaveImage", (left, 340), (340, 340), {"images": Link("color"), "filename_prefix": prefix}),
        Node(
            "map",
            "AdaptiveSRAdapterMap",
            (left + 400, 560),
            (300, 70),
            {"control_net": Link("adapter"), "latent": sampled},
        ),
        Node(
            "preview", "PreviewImage", (left + 400, 700), (480, 360), {"images": Link("map")}, title="Weight over time"
        ),
        Node(
            "compare",
            "ImageCompare",
            (left + 400, 40),
            (480, 460),
            {"compare_view": ["", ""], "image_a": Link("resize"), "image_b": Link("color")},
            title="Before | after",
        ),
    )


TASR = Workflow(
    "tasr",
    (
        note(
            "about",
            (40, 40),
            (380, 520),
            "Read me",
            "## TASR: a ControlNet that knows the time\n\n1. Put an SD 2.1-base (512, eps) checkpoint into `models/checkpoints` and "
            "`tasr_v1.pth` into `models/adaptivesr/controlnet`; press R and choose them.\n2. Choose your picture, and the width of "
            "the result in **Enlarge** (height 0 keeps the aspect).\n3. Say in **Tags** what is there, separated by commas; "
            "press **Run**.\n\nThe paper takes tags from RAM. Any node that gives a STRING can take its place, for "
            "example those of *ComfyUI-WD14-Tagger* or *ComfyUI-Florence2*: connect it to *text*. Tags of a cleaned picture are "
            "better than tags of a blurred one.\n\nThe public weights were made with a **cleaned** picture as condition: for "
            "noisy sources put *Upscale Image (using Model)* with a restoration model (BSRNet, Real-ESRGAN x2) before **Enlarge**.\n\n"
            "DiffBIR's `v2.pth` works here too: set **schedule** to *training-free*.",
        ),
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            (460, 40),
            (340, 100),
            {"ckpt_name": "v2-1_512-ema-pruned.safetensors"},
            title="SD 2.1-base",
        ),
        Node(
            "control",
            "AdaptiveSRLoadTimeAwareControlNet",
            (460, 200),
            (340, 150),
            {
                "control_name": "tasr_v1.pth",
                "adapter_name": "(from the ControlNet file)",
                "prediction": "auto",
            },
        ),
        Node("load_image", "LoadImage", (460, 410), (340, 340), {"image": "example.png"}, title="Your picture"),
        resize((460, 810), "bicubic", 512),
        Node("size", "GetImageSize", (860, 780), (340, 80), {"image": Link("resize")}),
        Node(
            "positive",
            "CLIPTextEncode",
            (860, 40),
            (340, 130),
            {"clip": Link("checkpoint", 1), "text": "portrait, person, smile, flag"},
            title="Tags",
        ),
        Node(
            "negative",
            "CLIPTextEncode",
            (860, 230),
            (340, 130),
            {"clip": Link("checkpoint", 1), "text": NEGATIVE},
            title="What it does not show",
        ),
        adapter((860, 420), Link("control"), "trained", adapter=Link("control", 1)),
        Node(
            "empty",
            "EmptyLatentImage",
            (1260, 890),
            (340, 110),
            {"width": Link("size"), "height": Link("size", 1), "batch_size": 1},
        ),
        apply_control("adapter", "resize", (1260, 40), "checkpoint"),
        Node(
            "guider",
            "CFGGuider",
            (1260, 290),
            (340, 100),
            {"model": Link("checkpoint"), "positive": Link("apply"), "negative": Link("apply", 1), "cfg": 4.5},
        ),
        Node("sampler", "KSamplerSelect", (1260, 450), (340, 60), {"sampler_name": "ddpm"}),
        Node(
            "sigmas",
            "AdaptiveSRSpacedSigmas",
            (1260, 570),
            (340, 110),
            {"model": Link("checkpoint"), "steps": 20, "denoise": 1.0},
        ),
        Node("noise", "RandomNoise", (1260, 740), (340, 90), {"noise_seed": 0}),
        Node(
            "sample",
            "SamplerCustomAdvanced",
            (1660, 40),
            (260, 110),
            {
                "noise": Link("noise"),
                "guider": Link("guider"),
                "sampler": Link("sampler"),
                "sigmas": Link("sigmas"),
                "latent_image": Link("empty"),
            },
        ),
        *results(Link("sample"), 1980, "AdaptiveSR_tasr"),
        note(
            "settings",
            (1660, 210),
            (260, 330),
            "What the settings do",
            "* **schedule** *both* adds off_late to the gates: 4 of 20 ControlNet calls fewer.\n"
            "* **strength** in *Apply ControlNet* scales the control as ever.\n"
            "* **Spaced Sigmas** and *ddpm* are the paper's chain of 20 steps.\n"
            "* For large pictures take *Tiled Region Sampler* in place of the five nodes around the sampler.",
        ),
    ),
)

TASR_TRAINING_FREE = Workflow(
    "tasr_training_free",
    (
        note(
            "about",
            (40, 40),
            (380, 440),
            "Read me",
            "## Control that ends in time, with your own ControlNet\n\n1. Choose an SD 1.5 (or SDXL) checkpoint and a Tile ControlNet "
            "for it; any other ControlNet works too.\n2. Choose your picture and its new width in **Enlarge**.\n3. Press **Run**.\n\n"
            "Late steps make texture, and a ControlNet holds texture back: **Time-Aware Adapter** fades it out below timestep 400 "
            "and does not call it at all below 200, which saves its time there. **Weight over time** shows what happened.\n\n"
            "**preset** *soft* stays closer to the source, *constant* is the plain ControlNet.\n\nFor SDXL set **tile_size** to 1024.",
        ),
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            (460, 40),
            (340, 100),
            {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
            title="Load Checkpoint",
        ),
        Node(
            "control",
            "ControlNetLoader",
            (460, 200),
            (340, 60),
            {"control_net_name": "control_v11f1e_sd15_tile.pth"},
            title="Tile ControlNet",
        ),
        Node("load_image", "LoadImage", (460, 320), (340, 340), {"image": "example.png"}, title="Your picture"),
        resize((460, 720), "lanczos", 1024),
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
            {"clip": Link("checkpoint", 1), "text": NEGATIVE},
            title="What it does not",
        ),
        adapter((860, 420), Link("control"), "training-free"),
        Node("encode", "VAEEncode", (860, 780), (340, 60), {"pixels": Link("resize"), "vae": Link("checkpoint", 2)}),
        apply_control("adapter", "resize", (1260, 40)),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            (1260, 290),
            (340, 460),
            {
                "model": Link("checkpoint"),
                "positive": Link("apply"),
                "negative": Link("apply", 1),
                "latent": Link("encode"),
                "seed": 0,
                "steps": 20,
                "cfg": 6.0,
                "sampler_name": "dpmpp_2m",
                "scheduler": "karras",
                "denoise": 0.5,
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        *results(Link("sample"), 1660, "AdaptiveSR_tasr_free"),
    ),
)
