"""One-step super-resolution with the embedded or a published checkpoint."""

from .parts import Link, Node, Workflow, note

ONE_STEP_SR = Workflow(
    "one_step_sr",
    (
        note(
            "about",
            (40, 40),
            (380, 330),
            "Read me",
            "## One-step super-resolution\n\n1. Choose your picture in **Load Image**.\n2. Press **Run**.\n\n"
            "The *embedded* weights are a tiny demonstration model of ours, trained on synthetic images: nothing to download, "
            "modest quality.\n\nFor photographs put a published checkpoint (SinSR, TAD-SR, ResShift) into "
            "`models/adaptivesr/one_step`, its autoencoder `autoencoder_vq_f4` into `models/adaptivesr/autoencoder`, press R and "
            "choose it in **Load One-Step SR**. Those weights are for non-commercial use.",
        ),
        Node(
            "load_model",
            "AdaptiveSRLoadOneStepSR",
            (460, 40),
            (340, 240),
            {"model_name": "embedded: one step", "autoencoder": "auto", "preset": "auto"},
        ),
        Node("load_image", "LoadImage", (460, 340), (340, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "upscale",
            "AdaptiveSROneStepDistilledSR",
            (860, 40),
            (340, 420),
            {
                "one_step_sr": Link("load_model"),
                "image": Link("load_image"),
                "scale": 4.0,
                "width": 0,
                "height": 0,
                "steps": 0,
                "seed": 0,
                "color_fix": "none",
                "tile": 256,
                "overlap": 32,
                "tile_batch": 0,
                "chain": "stochastic",
            },
        ),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            (1260, 40),
            (320, 160),
            {"image": Link("upscale"), "reference": Link("load_image"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "save",
            "SaveImage",
            (1260, 280),
            (320, 340),
            {"images": Link("color"), "filename_prefix": "AdaptiveSR"},
        ),
        Node(
            "compare",
            "ImageCompare",
            (1640, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("load_image"), "image_b": Link("color")},
            title="Before | after",
        ),
        note(
            "settings",
            (860, 540),
            (340, 280),
            "What the settings do",
            "* **scale**, or **width** / **height** for an exact size.\n"
            "* **steps** 0 runs the weights as they were trained.\n"
            "* **tile** and **overlap** are in pixels of the input: smaller tiles need less memory. One noise field covers the "
            "picture and tiles are blended before decoding.\n"
            "* The **report** output counts network calls and pixels.\n"
            "* **Before | after** shows its slider in ComfyUI's *Nodes 2.0* rendering; elsewhere look at *Save Image*.",
        ),
    ),
)
