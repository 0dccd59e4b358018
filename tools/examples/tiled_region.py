"""The region sampler with a checkpoint of the user's."""

from .parts import (
    NO_PLACE,
    SD15,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    color_fix,
    compare,
    decode,
    encode,
    enlarge_to,
    files_list,
    picture,
    prompt,
    region_report,
    save,
    settings,
    takes,
    whole_cells,
)

TILED_REGION_UPSCALE = Workflow(
    "tiled_region_upscale",
    (
        about(
            "## With your checkpoint, in parts\n\n1. Choose an SD 1.5 or SDXL checkpoint in **Load Checkpoint**.\n"
            "2. Choose your picture, and its new width in **Resize** (height 0 keeps the aspect).\n3. Say in **What it shows** what is there; press **Run**.\n\n"
            "**You get** the enlarged picture painted anew, region by region, from a third of the noise.\n\n"
            + takes("to 2048 x 2048 with SD 1.5", cpu="about 30 minutes", gpu="about 35 seconds")
            + "\n\nChange first: **denoise**. 0.2 keeps the picture, 0.5 invents freely.\n\n"
            "ControlNets (tile, depth, lines) go between the prompts and the sampler with *Apply ControlNet*: their hints are cropped to each region.\n\n"
            + files_list(SD15)
            + " Any other image checkpoint does too."
        ),
        checkpoint(SD15),
        picture(),
        enlarge_to(2048),
        prompt("positive", "a sharp, detailed photograph", "What it shows"),
        prompt("negative", "blurry, noise, jpeg artifacts", "What it does not"),
        encode("pad"),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            inputs={
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
                "tile_size": 0,
                "overlap": 64,
                "merge_mode": "consensus",
                "region_batch": 0,
                **NO_PLACE,
            },
        ),
        decode(Link("sample")),
        color_fix("crop", "resize"),
        save("color", "AdaptiveSR_tiled"),
        compare("resize", "color"),
        *region_report("sample", "color"),
        settings(
            "* **tile_size** 0: near the size the model was trained on, whatever covers the canvas for the least work.\n"
            "* **merge_mode** *consensus*: neighbours agree after every call.\n"
            "* **budget** takes a mask: white regions get all steps, black ones a single one.\n"
            "* **region_batch** 0 asks ComfyUI how many regions fit into memory at once.\n"
            "* **Region Cost Forecast** counts calls and memory before you run.\n"
            "* When decoding runs out of memory, use *VAE Decode (Tiled)*."
        ),
        *whole_cells("resize"),
    ),
    title="With your checkpoint, in parts",
    title_zh="使用你的大模型（分步节点）",
)
