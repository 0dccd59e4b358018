"""Degrade a good picture, upscale it, and measure what came back: on the user's own images, no files needed."""

from .parts import PICTURE, Link, Node, Workflow, note, takes

IMAGE_QUALITY = Workflow(
    "image_quality",
    (
        note(
            "about",
            (40, 40),
            (380, 420),
            "Read me",
            "## Measure an upscaler on your own pictures\n\n1. Choose a **good** picture in **A good picture** (sharp, 512 to 1024 pixels).\n"
            "2. Press **Run**.\n\n"
            "**Real-World Degradation** makes a small bad picture of it, **Upscale** enlarges that again, **Image Quality** "
            "compares with the original, beside plain Lanczos.\n\n"
            "**You get** bars that say which of the two came nearer to the original.\n\n"
            + takes("a picture of 512 pixels", cpu="7 seconds", gpu="a few seconds", measured="one core")
            + "\n\nPut your own upscaler in the place of Upscale: any IMAGE of the original's size can be measured.\n\n"
            "The preset *mild* is what the embedded weights were trained for; *real-esrgan*, *stablesr*, *tad_sr*, *invsr* are the "
            "papers' tables, most of them far stronger.",
        ),
        Node("load_image", "LoadImage", (460, 40), (340, 340), {"image": "example.png"}, title="A good picture"),
        Node(
            "degrade",
            "AdaptiveSRRealWorldDegradation",
            (860, 40),
            (340, 200),
            {"image": Link("load_image"), "preset": "mild", "scale": 4, "seed": 0},
        ),
        Node(
            "lanczos",
            "ImageScaleBy",
            (860, 300),
            (340, 100),
            {"image": Link("degrade"), "upscale_method": "lanczos", "scale_by": 4.0},
            title="Plain enlargement: Lanczos",
            collapsed=True,
        ),
        Node(
            "upscale",
            "AdaptiveSRAdaptiveUpscale",
            (860, 460),
            (340, 400),
            {
                "image": Link("degrade"),
                "scale": 4.0,
                "preset": "Balanced",
                "seed": 0,
                "width": 0,
                "height": 0,
                "denoise": 0.0,
                "cfg": 0.0,
                "tile_size": 0,
            },
            title="The upscaler to measure",
        ),
        Node(
            "quality",
            "AdaptiveSRImageQuality",
            (1260, 40),
            (340, 260),
            {
                "image": Link("upscale"),
                "reference": Link("degrade", 2),
                "compare": Link("lanczos"),
                "metrics": "psnr, ssim, nlpd, gmsd, piqe",
                "crop_border": 4,
                "y_channel": True,
                "labels": "this upscaler, Lanczos",
            },
        ),
        Node("bars", "PreviewImage", (1660, 40), (480, 460), {"images": Link("quality", 2)}, title="Scores"),
        Node(
            "report",
            "PreviewAny",
            (1260, 360),
            (340, 160),
            {"source": Link("quality")},
            title="Scores as JSON",
            collapsed=True,
        ),
        Node(
            "small",
            "PreviewImage",
            (1260, 580),
            (340, 280),
            {"images": Link("degrade")},
            title="The small picture",
            group=PICTURE,
        ),
        Node(
            "save",
            "SaveImage",
            (1660, 560),
            (480, 300),
            {"images": Link("upscale"), "filename_prefix": "AdaptiveSR_quality"},
            title="What came back",
        ),
        Node(
            "compare",
            "ImageCompare",
            (2200, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("lanczos"), "image_b": Link("upscale")},
            title="Lanczos | upscaler",
        ),
        note(
            "settings",
            (2200, 680),
            (480, 240),
            "Reading the bars",
            "* The arrow says which way is better; green is the best of a metric.\n"
            "* **psnr, ssim, nlpd, gmsd** compare with the original: closeness. **piqe** needs no original, and takes sharpness and grain "
            "for quality: do not go by it alone.\n"
            "* *lpips, dists, musiq, clipiqa* and others work too; pyiqa then downloads their weights.\n"
            "* One picture is an anecdote: change the **seed** and the picture before you believe a number.",
        ),
    ),
    title="Measure an upscaler",
    title_zh="衡量放大效果",
)
