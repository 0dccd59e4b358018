"""InvSR's noise predictor, trained for SD-Turbo on one's own pictures and tried out at once."""

from ...sampling.tiled.invsr import NEGATIVE, POSITIVE
from .parts import (
    SD_TURBO,
    WITHOUT_FILES,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    files_list,
    picture,
    preview,
    prompt,
    save,
    settings,
    takes,
)

TRAIN_NOISE_PREDICTOR = Workflow(
    "train_noise_predictor",
    (
        about(
            "## Train InvSR's noise predictor\n\n1. Put sharp pictures into one folder, write its path into **image_folder**, and take "
            "the link of *Load Image* to **images** out (it only lets the graph run as it is).\n2. Press **Run**. **Cancel** keeps the "
            "state; choose it in **resume** to go on.\n\nAs it stands this is a trial of 50 steps without latent LPIPS. For the real thing: "
            "**preset** *paper*, *vgg16_sdturbo_lpips.pth* of InvSR's authors in `models/adaptivesr/latent_lpips`, thousands of photos, "
            "and 100000 steps on a GPU.\n\n**You get** a file that *Load Noise Predictor* lists after **R**, and *Your picture* upscaled with it.\n\n"
            + takes("this trial", cpu="about an hour", gpu="about 2 minutes")
            + "\n\n"
            + files_list(SD_TURBO)
            + f"\n\n{WITHOUT_FILES} On a CPU set *size* to small, *crop_size* to 64 and *precision* to float32."
            + "\n\nSD Turbo has a licence of its own, Stability AI's."
        ),
        checkpoint(SD_TURBO),
        picture(),
        prompt("positive", POSITIVE, "Published prompt", 150),
        prompt("negative", NEGATIVE, "Published negative prompt", 150),
        Node(
            "train",
            "AdaptiveSRTrainNoisePredictor",
            inputs={
                "model": Link("checkpoint"),
                "vae": Link("checkpoint", 2),
                "positive": Link("positive"),
                "images": Link("load_image"),
                "preset": "own settings",
                "steps": 50,
                "latent_lpips": "(none)",
                "microbatch": 1,
                "seed": 0,
                "image_folder": "",
                "degradation": "invsr",
                "crop_size": 512,
                "size": "paper",
                "name": "noise_predictor",
                "resume": "(start anew)",
                "batch_size": 4,
                "taus": "250, 200, 150, 100",
                "mse_weight": 1.0,
                "lpips_weight": 0.0,
                "adversarial_weight": 0.1,
                "adversarial_after": 10000,
                "learning_rate": 0.00005,
                "discriminator_learning_rate": 0.00005,
                "warmup": 0,
                "ema_decay": 0.999,
                "precision": "bfloat16",
                "gradient_checkpointing": True,
                "samples_every": 500,
                "save_every": 500,
            },
        ),
        preview("losses", Link("train", 1), "Losses"),
        preview("samples", Link("train", 2), "LR, one step from each start, truth"),
        Node("report", "PreviewAny", size=(400, 240), inputs={"source": Link("train", 3)}, title="Report"),
        Node(
            "upscale",
            "AdaptiveSRInvSRUpscale",
            inputs={
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "vae": Link("checkpoint", 2),
                "noise_predictor": Link("train"),
                "image": Link("load_image"),
                "steps": 1,
                "taus": "",
                "seed": 0,
                "strength": 1.0,
                "cfg": 1.0,
                "color_fix": "wavelet",
                "mode": "latent regions",
                "patch_size": 128,
                "overlap": 32,
                "patch_batch": 0,
            },
        ),
        save("upscale", "AdaptiveSR_invsr"),
        settings(
            "* **preset** *paper* overrules batch_size and everything from taus to ema_decay.\n"
            "* **microbatch** is what fits your memory; the result hardly depends on it.\n"
            "* **taus**: the start steps; they are written into the file, and InvSR's nodes read them there.\n"
            "* **size** *small* is a network for trials.\n"
            "* **noise_predictor** (input): a predictor to go on from, in place of a fresh one."
        ),
    ),
    title="Train InvSR's noise predictor",
    title_zh="训练 InvSR 噪声预测器",
)
