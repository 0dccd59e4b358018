"""One-step super-resolution with the embedded or a published checkpoint."""

from .parts import Link, Node, Workflow, about, color_fix, compare, picture, save, settings, takes

ONE_STEP_SR = Workflow(
    "one_step_sr",
    (
        about(
            "## One-step super-resolution\n\n1. Choose your picture in **Your picture**.\n2. Press **Run**.\n\n"
            "**You get** the picture four times larger. The *embedded* weights are a tiny demonstration model of ours: nothing to download, "
            "faithful, modest quality.\n\n"
            + takes("256 to 1024 pixels", cpu="5 seconds", gpu="below a second", measured="one core")
            + "\n\nFor photographs take a published checkpoint, [ResShift](https://github.com/zsyOAOA/ResShift/releases) or "
            "[SinSR](https://github.com/wyf0912/SinSR/releases), into `models/adaptivesr/one_step`, and "
            "[autoencoder_vq_f4.pth](https://github.com/zsyOAOA/ResShift/releases) into `models/adaptivesr/autoencoder`. Press **R** and choose the "
            "checkpoint in **Load One-Step SR**. Those weights are for non-commercial use.\n\nChange first: **model_name**, then **scale**."
        ),
        Node(
            "load_model",
            "AdaptiveSRLoadOneStepSR",
            inputs={"model_name": "embedded: one step", "autoencoder": "auto", "preset": "auto"},
        ),
        picture(),
        Node(
            "upscale",
            "AdaptiveSROneStepDistilledSR",
            inputs={
                "one_step_sr": Link("load_model"),
                "image": Link("load_image"),
                "scale": 4.0,
                "width": 0,
                "height": 0,
                "steps": 0,
                "seed": 0,
                "color_fix": "none",
                "tile": 0,
                "overlap": 32,
                "tile_batch": 0,
                "chain": "stochastic",
            },
        ),
        color_fix("upscale", "load_image"),
        save("color", "AdaptiveSR"),
        compare("load_image", "color"),
        settings(
            "* **scale**, or **width** / **height** for an exact size.\n"
            "* **steps** 0 makes as many steps as the weights were trained for.\n"
            "* Colours are fixed by the folded **Wavelet Color Fix** behind it, hence **color_fix** *none*.\n"
            "* **tile** and **overlap** are in pixels of the input: smaller tiles need less memory, 0 chooses.\n"
            "* The line under the node says what the run took; the **report** output has it as JSON.\n"
            "* **Before | after**: move the mouse over the picture."
        ),
    ),
    title="One step, in parts",
    title_zh="单步放大（分步节点）",
)
