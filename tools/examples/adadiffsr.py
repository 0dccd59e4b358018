"""Dynamic timesteps with a checkpoint of the user's: no trained parts."""

from .parts import (
    NO_PLACE,
    SD15,
    UPSCALE,
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

ADADIFFSR_ANY_MODEL = Workflow(
    "adadiffsr_any_model",
    (
        about(
            "## Steps where the detail is\n\n1. Choose an SD 1.5 or SDXL checkpoint in **Load Checkpoint**.\n"
            "2. Choose your picture, and its new width in **Resize** (height 0 keeps the aspect).\n"
            "3. Say in **What it shows** what is there; press **Run**.\n\n"
            "**You get** the enlarged picture painted anew by your checkpoint. **MMLE Gain Estimator** looks at every prediction: regions that "
            "stop changing take larger jumps. **Steps per region** shows where the steps went.\n\n"
            + takes("to 2048 x 2048 with SD 1.5", cpu="at most 35 minutes", gpu="at most 45 seconds")
            + "\n\nChange first: **tau**, then **denoise**.\n\n"
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
            "gain",
            "AdaptiveSRMMLEGainEstimator",
            group=UPSCALE,
            inputs={
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
                "rule": "paper",
                "growing": "both",
            },
        ),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            inputs={
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
                "tile_size": 0,
                "overlap": 64,
                "merge_mode": "consensus",
                "region_batch": 0,
                **NO_PLACE,
            },
        ),
        decode(Link("sample")),
        color_fix("crop", "resize"),
        save("color", "AdaptiveSR_adadiffsr"),
        compare("resize", "color"),
        *region_report("sample", "color"),
        settings(
            "* **tau** is the change that counts as one: larger means fewer steps. Adjust it to your model by *Steps per region*.\n"
            "* **back_end** *latent* costs next to nothing and looks at no *metrics*; *vae* decodes every prediction for them.\n"
            "* **W** warmup, **G** growing, **S** stable, **H** falling, **X** ended: a letter for every call of a region.\n"
            "* *Region Cost Forecast* counts every step: the most that a run costs."
        ),
        *whole_cells("resize"),
    ),
    title="Steps where the detail is",
    title_zh="细节多处多走步",
)
