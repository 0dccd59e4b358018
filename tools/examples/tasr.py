"""TASR with its published weights, and its idea without any with the ControlNet that the user has."""

from .parts import (
    EMBEDDED_BASE,
    MODELS,
    NO_PLACE,
    SD15,
    SD21_BASE,
    File,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    color_fix,
    compare,
    decode,
    embedded_base,
    encode,
    enlarge_to,
    files_list,
    picture,
    preview,
    prompt,
    sample_custom,
    save,
    settings,
    takes,
    whole_cells,
)

NEGATIVE = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"
PROMPTS = Link("positive"), Link("negative")
TASR_FILE = File(
    "Load Time-Aware ControlNet",
    "tasr_v1.pth",
    "SleepyLin/TASR",
    "https://huggingface.co/SleepyLin/TASR",
    "adaptivesr/controlnet",
)
TILE_CONTROL = File(
    "Tile ControlNet",
    "control_v11f1e_sd15_tile.pth",
    "lllyasviel/ControlNet-v1-1",
    "https://huggingface.co/lllyasviel/ControlNet-v1-1",
    "controlnet",
)


def latent_control(name: str) -> Node:
    """The loader of a ControlNet with its adapters in the same file."""
    inputs = {"control_name": name, "adapter_name": "(from the ControlNet file)", "prediction": "auto"}
    return Node("control", "AdaptiveSRLoadTimeAwareControlNet", inputs=inputs)


def apply_control(vae: Link | None = None, prompts: tuple[Link, Link] = PROMPTS) -> Node:
    """The host's own Apply ControlNet between the prompts and the sampler; with a VAE where the control reads latents."""
    inputs = {
        "positive": prompts[0],
        "negative": prompts[1],
        "control_net": Link("adapter"),
        "image": Link("pad"),
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    }
    return Node("apply", "ControlNetApplyAdvanced", inputs={**inputs, "vae": vae} if vae else inputs, collapsed=True)


def adapter(schedule: str, **more: Link) -> Node:
    """The node, with the numbers of its default preset."""
    inputs = {
        "control_net": Link("control"),
        "schedule": schedule,
        "preset": "off_late",
        "s_lo": 0.0,
        "t_off": 200.0,
        "t_on": 400.0,
        "per_site": False,
        "alpha_max": 0.0,
    }
    return Node("adapter", "AdaptiveSRTimeAwareAdapter", inputs={**inputs, **more})


def results(prefix: str) -> tuple[Node, ...]:
    """Decode, colours, file, comparison and map."""
    return (
        decode(Link("sample")),
        color_fix("crop", "resize"),
        save("color", prefix),
        compare("resize", "color"),
        Node("map", "AdaptiveSRAdapterMap", inputs={"control_net": Link("adapter"), "latent": Link("sample")}),
        preview("preview", Link("map"), "Weight over time"),
    )


TASR = Workflow(
    "tasr",
    (
        about(
            "## TASR: a ControlNet that knows the time\n\n1. Put the two files in place.\n2. Choose your picture.\n3. Say in **Tags** what is "
            "there, separated by commas; press **Run**.\n\n**You get** it four times larger. Where its shorter side is below 128 pixels, raise "
            "*scale_by* of **Enlarge** until the result's has 512.\n\n"
            + takes("256 to 1024 pixels", cpu="about 11 minutes", gpu="about 15 seconds")
            + "\n\nChange first: **Tags**. The paper takes them from RAM; a tagger's STRING can be connected to *text*. For noisy sources put "
            "*Upscale Image (using Model)* with BSRNet x4 in place of **Enlarge**: the weights were made with a **cleaned** picture. DiffBIR's "
            "`v2.pth` works too: set **schedule** to *training-free*.\n\n" + files_list(SD21_BASE, TASR_FILE)
        ),
        checkpoint(SD21_BASE),
        latent_control(TASR_FILE.name),
        picture(),
        Node(
            "resize",
            "ImageScaleBy",
            inputs={"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0},
            title="Enlarge",
        ),
        Node("size", "GetImageSize", inputs={"image": Link("pad")}),
        prompt("positive", "portrait, person, smile, flag", "Tags"),
        prompt("negative", NEGATIVE, "What it does not show"),
        adapter("trained", adapter=Link("control", 1)),
        Node(
            "empty",
            "EmptyLatentImage",
            inputs={"width": Link("size"), "height": Link("size", 1), "batch_size": Link("size", 2)},
        ),
        apply_control(Link("checkpoint", 2)),
        Node(
            "guider",
            "CFGGuider",
            inputs={"model": Link("checkpoint"), "positive": Link("apply"), "negative": Link("apply", 1), "cfg": 4.5},
            collapsed=True,
        ),
        Node(
            "sampler",
            "AdaptiveSRRegionSampler",
            inputs={
                "sampler_name": "ddpm",
                "tile_size": 0,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        Node(
            "sigmas",
            "AdaptiveSRSpacedSigmas",
            collapsed=True,
            inputs={"model": Link("checkpoint"), "steps": 20, "denoise": 1.0},
        ),
        Node("noise", "RandomNoise", inputs={"noise_seed": 0}, title="Noise", collapsed=True),
        sample_custom(Link("noise"), Link("sampler"), Link("sigmas"), Link("empty")),
        *results("AdaptiveSR_tasr"),
        settings(
            "* **schedule** *both* adds off_late to the gates: 4 of 20 ControlNet calls fewer.\n"
            "* **strength** in *Apply ControlNet* scales the control as ever.\n"
            "* **Spaced Sigmas** and *ddpm* are the paper's chain of 20 steps.\n"
            "* **Region Sampler**: results above 512 pixels are sampled in regions; up to it there is one, as in the paper."
        ),
        *whole_cells("resize"),
    ),
    title="TASR",
    title_zh="TASR",
)

TASR_EMBEDDED = Workflow(
    "tasr_embedded",
    (
        about(
            "## TASR, a demonstration with nothing to download\n\n**After a good picture?** Open *Quick upscale*: this shows how the method "
            "works, on a tiny model of 1.9 million parameters.\n\n1. Choose a **small** picture in **Your picture** (64 to 128 pixels).\n"
            "2. Press **Run**.\n\n**You get** it four times larger. The base knows no picture at all; the ControlNet tells it of yours, and "
            "trained gates weigh how loud it speaks, by place and by time: **Weight over time**.\n\n"
            + takes("128 to 512 pixels", cpu="about a minute", gpu="about 5 seconds", measured="one core")
            + "\n\nChange first: **schedule**. *training-free* ends the control at timestep 200."
        ),
        embedded_base(),
        latent_control(EMBEDDED_BASE),
        picture(),
        Node(
            "resize",
            "ImageScaleBy",
            inputs={"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0},
            title="Enlarge",
        ),
        adapter("trained", adapter=Link("control", 1)),
        encode("pad"),
        apply_control(Link("checkpoint", 2), (Link("checkpoint", 1), Link("checkpoint", 1))),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            inputs={
                "model": Link("checkpoint"),
                "positive": Link("apply"),
                "negative": Link("apply", 1),
                "latent": Link("encode"),
                "seed": 0,
                "steps": 20,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
                "tile_size": 256,
                "overlap": 64,
                "merge_mode": "consensus",
                "region_batch": 0,
                **NO_PLACE,
            },
        ),
        *results("AdaptiveSR_tasr_embedded"),
        settings(
            "* **schedule** *both* adds off_late to the gates: 4 of 20 ControlNet calls fewer.\n"
            "* **strength** in *Apply ControlNet* scales the control as ever.\n"
            "* **steps**, **cfg** 1: the base knows no text that could guide it.\n"
            "* **Adapter Map** shows what the gates learned; without a ControlNet the base paints what it likes."
        ),
        *whole_cells("resize"),
    ),
    title="TASR, a small demonstration",
    title_zh="TASR 小型演示",
)

TASR_TRAINING_FREE = Workflow(
    "tasr_training_free",
    (
        about(
            "## Control that ends in time, with your own ControlNet\n\n1. Choose an SD 1.5 (or SDXL) checkpoint and a Tile ControlNet "
            "for it; any other ControlNet works too.\n2. Choose your picture, and its new width in **Enlarge**.\n3. Press **Run**.\n\n"
            "Late steps make texture, and a ControlNet holds texture back: **Time-Aware Adapter** fades it out below timestep 400 "
            "and does not call it at all below 200. **Weight over time** shows what happened.\n\n"
            "**You get** the enlarged picture painted anew, held close to yours by the ControlNet.\n\n"
            + takes("to 1024 x 1024 with SD 1.5", cpu="about 15 minutes", gpu="about 20 seconds")
            + "\n\nChange first: **preset**. *soft* stays closer to the source, *constant* is the plain ControlNet.\n\n"
            + files_list(SD15, TILE_CONTROL)
        ),
        checkpoint(SD15),
        Node(
            "control",
            "ControlNetLoader",
            inputs={"control_net_name": TILE_CONTROL.name},
            title="Tile ControlNet",
            group=MODELS,
        ),
        picture(),
        enlarge_to(1024, title="Enlarge"),
        prompt("positive", "a sharp, detailed photograph", "What it shows"),
        prompt("negative", NEGATIVE, "What it does not"),
        adapter("training-free"),
        encode("pad"),
        apply_control(),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            inputs={
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
                **NO_PLACE,
            },
        ),
        *results("AdaptiveSR_tasr_free"),
        settings(
            "* **denoise** less stays closer to the picture.\n"
            "* **t_off**, **t_on**, **s_lo** count with *preset* custom.\n"
            "* **tile_size** is the size the model was trained on: 1024 for SDXL.\n"
            "* **Adapter Map** also says how many calls were skipped."
        ),
        *whole_cells("resize"),
    ),
    title="Your ControlNet, ending in time",
    title_zh="让你的 ControlNet 适时退出",
)
