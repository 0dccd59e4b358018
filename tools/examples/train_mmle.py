"""Both trained parts of AdaDiffSR, made on the embedded teacher."""

from .parts import Link, Node, Workflow, note, takes

TEACHER = "embedded: teacher, 15 steps"
COMMON = {
    "image_folder": "",
    "degradation": "mild",
    "size": "small",
    "crop_size": 128,
    "seed": 0,
    "name": "my_gain",
    "resume": "(start anew)",
    "calls": 40,
    "denoise": 1.0,
    "sampler_name": "euler",
    "smooth_share": 0.2,
    "precision": "float32",
    "save_every": 500,
}

TRAIN_MMLE = Workflow(
    "train_mmle",
    (
        note(
            "about",
            (20, 40),
            (380, 470),
            "Read me",
            "## Train AdaDiffSR's parts\n\n1. Put sharp pictures into one folder, write its path into **image_folder** of both nodes, and take "
            "**Load Image** out (it only lets the graph run as it is).\n2. Press **Run**; Cancel saves, **resume** goes on.\n\n"
            "**Train MMLE** runs the MODEL's chain on degraded crops, measures every prediction, keeps all of it on disk, and teaches a "
            "small network to tell the gains from latents. **Train PFJ** then learns what features of the picture a region should get back "
            "at which gains.\n\nThe last file holds both: press **R** and choose it in *Load MMLE + PFJ*.\n\n"
            + takes("as set here", cpu="about half an hour", gpu="a few minutes")
            + " The base is the *embedded teacher*; the files are for it only.",
        ),
        Node(
            "load_model",
            "AdaptiveSRLoadOneStepSR",
            (460, 40),
            (340, 240),
            {"model_name": TEACHER, "autoencoder": "auto", "preset": "auto"},
            title="The MODEL that will be sampled",
        ),
        Node("load_image", "LoadImage", (460, 340), (340, 340), {"image": "example.png"}, title="Or a folder"),
        Node(
            "mmle",
            "AdaptiveSRTrainMMLE",
            (860, 40),
            (340, 720),
            {
                "model": Link("load_model", 1),
                "vae": Link("load_model", 2),
                "images": Link("load_image"),
                "steps": 1000,
                "batch_size": 32,
                "learning_rate": 0.002,
                "trajectories": 96,
                "metrics": "psnr, sharpness",
                "t_half": 500.0,
                "visibility_floor": True,
                "convolutions": False,
                "schedule": 1000,
                **COMMON,
            },
        ),
        Node(
            "pfj",
            "AdaptiveSRTrainPFJ",
            (1260, 40),
            (340, 640),
            {
                "model": Link("load_model", 1),
                "vae": Link("load_model", 2),
                "gain_models": Link("mmle"),
                "images": Link("load_image"),
                "steps": 200,
                "batch_size": 8,
                "learning_rate": 0.0002,
                **COMMON,
            },
        ),
        Node(
            "mmle_losses", "PreviewImage", (1660, 40), (380, 420), {"images": Link("mmle", 1)}, title="Losses of MMLE"
        ),
        Node("pfj_losses", "PreviewImage", (1660, 520), (380, 420), {"images": Link("pfj", 1)}, title="Losses of PFJ"),
        note(
            "settings",
            (2100, 40),
            (480, 430),
            "What the settings do",
            "* **crop_size** is the tile size that you will sample, **calls**, **denoise** and **sampler_name** its chain: train on what "
            "you will run (scheduler *normal*).\n"
            "* **trajectories** are crops with their whole chain: more of them, from more pictures, before more steps.\n"
            "* **metrics** *paper* are PSNR, LPIPS, AHIQ, NLPD, BRISQUE and MUSIQ, whose weights pyiqa fetches.\n"
            "* **visibility_floor**: what flat regions go through counts as no gain; without it a sky gets as many steps as grass.\n"
            "* **size** *small* is for small bases, *paper* for Stable Diffusion (with *crop_size* 512, *degradation* stablesr, the MODEL "
            "of StableSR Apply, and a GPU). *convolutions* off: statistics of the latents alone, for a few hundred trajectories.\n"
            "* The number under each node: correlation of predicted and measured gains on crops that were kept back; error with and without "
            "injection.",
        ),
    ),
    title="Train AdaDiffSR's parts",
    title_zh="训练 AdaDiffSR 的部件",
)
