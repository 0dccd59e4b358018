"""One box for everything: with the embedded weights, and with a checkpoint of the user's."""

from .parts import (
    SD15,
    UPSCALE,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    compare,
    files_list,
    picture,
    prompt,
    save,
    settings,
    takes,
)


def one_box(**more: Link) -> Node:
    """The node with its defaults."""
    inputs = {
        "image": Link("load_image"),
        "scale": 4.0,
        "preset": "Balanced",
        "seed": 0,
        "width": 0,
        "height": 0,
        "denoise": 0.0,
        "cfg": 0.0,
        "tile_size": 0,
    }
    return Node("upscale", "AdaptiveSRAdaptiveUpscale", inputs={**inputs, **more}, group=UPSCALE)


ADAPTIVE_UPSCALE = Workflow(
    "adaptive_upscale",
    (
        about(
            "## Quick upscale: one box\n\n1. Choose your picture in **Your picture**.\n2. Choose **scale** and **preset**; press **Run**.\n\n"
            "**You get** the picture four times larger, cleaner and sharper than a plain resize. It invents no texture: the *embedded* weights are "
            "a tiny model of ours, with nothing to download.\n\n"
            + takes("256 to 1024 pixels", cpu="6 seconds", gpu="below a second", measured="one core")
            + "\n\n**Better pictures**: the template *With your checkpoint*, or **Load One-Step SR** with a published file (SinSR, TAD-SR, "
            "ResShift) on the input *one_step_sr*."
        ),
        picture(),
        one_box(),
        save("upscale", "AdaptiveSR_adaptive"),
        compare("load_image", "upscale"),
        settings(
            "| preset | one-step weights (the embedded ones) | weights with several steps |\n|---|---|---|\n| **Fast** | one step | one step |\n"
            "| **Balanced** | one step, colours of your picture | 4 steps, colours of your picture |\n"
            "| **Best** | the mean of eight flipped and turned runs | all steps |"
        ),
    ),
    title="Quick upscale",
    title_zh="快速放大",
)

ADAPTIVE_UPSCALE_CHECKPOINT = Workflow(
    "adaptive_upscale_checkpoint",
    (
        about(
            "## With your checkpoint: one box\n\n1. Choose a checkpoint in **Load Checkpoint** and your picture.\n2. Say in **What it shows** what is "
            "there.\n3. Choose **scale** and **preset**; press **Run**.\n\n**You get** the enlarged picture painted anew by your checkpoint, region by "
            "region: new detail in its style, the same composition. Regions that stop changing stop early; of a picture of several regions the node shows a map of that.\n\n"
            + takes("256 to 1024 pixels with SD 1.5", cpu="about 10 minutes", gpu="about 10 seconds")
            + "\n\nChange first: **preset**, then *denoise* below *Show more settings*.\n\n"
            + files_list(SD15)
            + " SD 2.x, SDXL and flow models do too."
        ),
        checkpoint(SD15),
        picture(),
        prompt("positive", "a sharp, detailed photograph", "What it shows"),
        prompt("negative", "blurry, noise, jpeg artifacts", "What it does not"),
        one_box(
            model=Link("checkpoint"),
            vae=Link("checkpoint", 2),
            positive=Link("positive"),
            negative=Link("negative"),
        ),
        save("upscale", "AdaptiveSR_checkpoint"),
        compare("load_image", "upscale"),
        settings(
            "| preset | of your checkpoint |\n|---|---|\n| **Fast** | 10 steps, denoise 0.2, cfg 3 |\n"
            "| **Balanced** | 20 steps, denoise 0.3, cfg 5; colours kept |\n| **Best** | 30 steps, denoise 0.35, cfg 6 |\n\n"
            "* **denoise**: 0.2 keeps the picture, 0.5 invents freely.\n* Distilled models (Turbo, Flux) want **cfg** 1.\n"
            "* ControlNets go between the prompts and the node."
        ),
    ),
    title="With your checkpoint",
    title_zh="使用你的大模型",
)
