"""One box for everything, with the embedded weights."""

from .parts import Link, Node, Workflow, note

ADAPTIVE_UPSCALE = Workflow(
    "adaptive_upscale",
    (
        note(
            "about",
            (40, 40),
            (380, 400),
            "Read me",
            "## One box\n\n1. Choose your picture in **Load Image**.\n2. Choose **scale** and **preset**; press **Run**.\n\n"
            "Nothing to download: the *embedded* weights are a tiny demonstration model of ours.\n\n"
            "**Better pictures**\n"
            "* Connect **Load One-Step SR** with a published checkpoint (SinSR, TAD-SR, ResShift) to *one_step_sr*.\n"
            "* Connect *model*, *vae* and prompts of any checkpoint (SD 1.5, SDXL): the enlarged picture is painted anew, region by "
            "region, and regions that stop changing stop early.",
        ),
        Node("load_image", "LoadImage", (460, 40), (340, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "upscale",
            "AdaptiveSRAdaptiveUpscale",
            (860, 40),
            (340, 400),
            {
                "image": Link("load_image"),
                "scale": 4.0,
                "preset": "Balanced",
                "seed": 0,
                "width": 0,
                "height": 0,
                "denoise": 0.0,
                "cfg": 0.0,
                "tile_size": 0,
            },
        ),
        Node(
            "save",
            "SaveImage",
            (1260, 40),
            (340, 340),
            {"images": Link("upscale"), "filename_prefix": "AdaptiveSR_adaptive"},
        ),
        Node(
            "compare",
            "ImageCompare",
            (1660, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("load_image"), "image_b": Link("upscale")},
            title="Before | after",
        ),
        note(
            "settings",
            (860, 500),
            (740, 200),
            "The presets",
            "| | one step (embedded or *one_step_sr*) | with *model* |\n|---|---|---|\n"
            "| **Fast** | one step | 10 steps, denoise 0.2 |\n"
            "| **Balanced** | one step, or 4 of a chain; colours kept | 20 steps, denoise 0.3; colours kept |\n"
            "| **Best** | the whole chain, or eight flipped views of the embedded weights averaged | 30 steps, denoise 0.35 |\n",
        ),
    ),
)
