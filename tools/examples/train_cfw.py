"""StableSR's fusion layers, trained on the user's pictures."""

from .parts import SD21_BASE, WITHOUT_FILES, Link, Node, Workflow, files_list, note, takes
from .stablesr import CFW, PARTS

TRAIN_CFW = Workflow(
    "train_cfw",
    (
        note(
            "about",
            (20, 40),
            (380, 430),
            "Read me",
            "## Train CFW\n\n1. Choose your base in **Load Checkpoint**, and in **Load StableSR** the file with which you upscale.\n2. Put sharp pictures "
            "into one folder, write its path into **image_folder**, and take **Load Image** out (it only lets the graph run as it is).\n"
            "3. Press **Run**: first the triples are made and kept, then the layers learn from them; Cancel saves, **resume** goes on.\n\n"
            "It goes on from the published layers. For fresh ones take the link to **cfw** out; the VAE may then be the checkpoint's.\n\nAs it stands "
            "this is a trial of 20 steps on 4 triples, without LPIPS, whose weights pyiqa fetches. For the real thing set **settings** to *paper* (or thousands of "
            "**triples**), and **steps** to tens of thousands.\n\nChange first: **image_folder**, **triples** and **steps**.\n\n"
            + takes("this trial", cpu="about a minute", gpu="seconds")
            + "\n\n**You get** a file that *Load CFW* lists after **R**. "
            "StableSR's weights are for non-commercial use, and so is what comes of them.\n\n"
            + files_list(SD21_BASE, PARTS, CFW)
            + f"\n\n{WITHOUT_FILES}",
        ),
        Node(
            "load_model",
            "CheckpointLoaderSimple",
            (460, 40),
            (340, 160),
            {"ckpt_name": SD21_BASE.name},
            title="The base, which stays as it is",
        ),
        Node(
            "load_parts",
            "AdaptiveSRLoadStableSR",
            (460, 240),
            (340, 100),
            {"model_name": PARTS.name, "load_base": False},
        ),
        Node("load_cfw", "AdaptiveSRLoadCFW", (460, 380), (340, 120), {"cfw_name": CFW.name}),
        Node("load_image", "LoadImage", (460, 540), (340, 340), {"image": "example.png"}, title="Or a folder"),
        Node(
            "train",
            "AdaptiveSRTrainCFW",
            (860, 40),
            (360, 760),
            {
                "model": Link("load_model"),
                "vae": Link("load_cfw", 1),
                "stablesr": Link("load_parts"),
                "cfw": Link("load_cfw"),
                "images": Link("load_image"),
                "settings": "own settings",
                "steps": 20,
                "batch_size": 1,
                "accumulate": 1,
                "learning_rate": 0.00005,
                "size": "paper",
                "image_folder": "",
                "degradation": "stablesr",
                "crop_size": 64,
                "triples": 4,
                "sampling_steps": 4,
                "seed": 0,
                "name": "my_cfw",
                "resume": "(start anew)",
                "perceptual": "gradients at three scales (ours, weight-free)",
                "adversarial_weight": 0.025,
                "adversarial_after": 501,
                "start": "near the VAE (ours)",
                "precision": "float32",
                "gradient_checkpointing": False,
                "samples_every": 0,
                "save_every": 500,
            },
        ),
        Node("losses", "PreviewImage", (1280, 40), (380, 320), {"images": Link("train", 1)}, title="Losses"),
        Node("report", "PreviewAny", (1280, 420), (380, 240), {"source": Link("train", 2)}, title="Report"),
    ),
    title="Train StableSR's CFW",
    title_zh="训练 StableSR 的 CFW",
)
