"""StableSR's encoder and SFT layers, trained on the user's pictures."""

from .parts import SD21_BASE, WITHOUT_FILES, Link, Node, Workflow, files_list, note, takes

TRAIN_STABLESR = Workflow(
    "train_stablesr",
    (
        note(
            "about",
            (20, 40),
            (380, 430),
            "Read me",
            "## Train StableSR\n\n1. Choose your base in **Load Checkpoint**: SD 2.1-base (512) or 2.1 (768).\n2. Put sharp pictures into one "
            "folder, write its path into **image_folder**, and take **Load Image** out (it only lets the graph run as it is).\n"
            "3. Press **Run**; Cancel saves, **resume** goes on.\n\nAs it stands this is a trial of 20 steps with a small encoder. For the real "
            "thing set **settings** to *paper*, and **steps** to tens of thousands.\n\nChange first: **image_folder** and **steps**.\n\n"
            + takes("this trial", cpu="about a minute", gpu="seconds")
            + "\n\n**You get** a file that *Load StableSR* lists after **R**. To go "
            "on from a published file, connect *Load StableSR* to **stablesr**; its weights are for non-commercial use, and so is what comes of them.\n\n"
            + files_list(SD21_BASE)
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
        Node("load_image", "LoadImage", (460, 260), (340, 340), {"image": "example.png"}, title="Or a folder"),
        Node(
            "train",
            "AdaptiveSRTrainStableSR",
            (860, 40),
            (360, 700),
            {
                "model": Link("load_model"),
                "vae": Link("load_model", 2),
                "images": Link("load_image"),
                "settings": "own settings",
                "steps": 20,
                "batch_size": 1,
                "accumulate": 1,
                "learning_rate": 0.00005,
                "size": "small",
                "image_folder": "",
                "degradation": "stablesr",
                "sharpened": True,
                "crop_size": 64,
                "seed": 0,
                "name": "my_stablesr",
                "resume": "(start anew)",
                "start": "near the base (ours)",
                "weight_decay": 0.01,
                "precision": "float32",
                "gradient_checkpointing": False,
                "samples_every": 0,
                "save_every": 500,
            },
        ),
        Node("losses", "PreviewImage", (1280, 40), (380, 320), {"images": Link("train", 1)}, title="Loss"),
        Node("report", "PreviewAny", (1280, 420), (380, 240), {"source": Link("train", 2)}, title="Report"),
    ),
    title="Train StableSR",
    title_zh="训练 StableSR",
)
