"""One-step distillation of the embedded teacher, as a trial that becomes the real thing with a checkpoint and photos."""

from .parts import Link, Node, Workflow, note, takes

DISTILL_ONE_STEP = Workflow(
    "distill_one_step",
    (
        note(
            "about",
            (40, 40),
            (400, 470),
            "Read me",
            "## Distil a teacher into one step\n\nAs it stands this is a trial: the *embedded* teacher, 64 generated pictures, 200 steps. "
            "It needs no files and shows that everything works; its student is no better than the embedded one.\n\n**You get** a file that *Load One-Step SR* "
            "lists, its losses, samples and report, and *Your picture* upscaled with it.\n\n"
            + takes("this trial", cpu="about 20 minutes", gpu="about 2 minutes")
            + "\n\n"
            "For a student of your own:\n\n1. **Load One-Step SR**: a ResShift checkpoint (`resshift_realsrx4_s15_v1`) and its autoencoder.\n"
            "2. **Distill One-Step SR**: *image_folder* with thousands of sharp photos, *generated_pictures* 0, *degradation* tad_sr, "
            "*crop_size* 256, *learning_rate* 0.00005, *steps* 30000, *warmup* 5000.\n"
            "3. Press **Run**. **Cancel** keeps the state; choose it in *resume* to go on.\n\nChange first: **image_folder** and **steps**.\n\nThe help page of the node says what memory it takes. "
            "Weights of ResShift are for non-commercial use, and so are students made from them.",
        ),
        Node(
            "load_model",
            "AdaptiveSRLoadOneStepSR",
            (500, 40),
            (340, 240),
            {"model_name": "embedded: teacher, 15 steps", "autoencoder": "auto", "preset": "auto"},
            title="Teacher",
        ),
        Node(
            "load_image", "LoadImage", (500, 340), (340, 340), {"image": "example.png"}, title="To try the student on"
        ),
        Node(
            "distill",
            "AdaptiveSRDistillOneStepSR",
            (900, 40),
            (400, 760),
            {
                "teacher": Link("load_model"),
                "method": "TAD-SR",
                "steps": 200,
                "batch_size": 4,
                "learning_rate": 0.0003,
                "seed": 0,
                "image_folder": "",
                "generated_pictures": 64,
                "degradation": "mild",
                "crop_size": 128,
                "whole_pictures": False,
                "name": "distilled",
                "resume": "(start anew)",
                "distill_weight": 1.0,
                "score_weight": 1.0,
                "adversarial_weight": 0.02,
                "fidelity_weight": 0.0,
                "energy_weight": 0.0,
                "score_form": "paper",
                "teacher_steps": 4,
                "discriminator_learning_rate": 0.0003,
                "warmup": 20,
                "ema_decay": 0.999,
                "microbatch": 0,
                "random_times": False,
                "samples_every": 100,
                "save_every": 100,
                "metrics": "psnr ssim nlpd gmsd",
                "settings": "own settings",
                "score_levels": 3,
                "logit_mean": "over positions",
            },
        ),
        Node("losses", "PreviewImage", (1360, 40), (380, 420), {"images": Link("distill", 1)}, title="Losses"),
        Node(
            "samples",
            "PreviewImage",
            (1360, 520),
            (380, 420),
            {"images": Link("distill", 2)},
            title="LR, teacher, student, truth",
        ),
        Node("report", "PreviewAny", (900, 860), (400, 240), {"source": Link("distill", 3)}, title="Report"),
        Node(
            "upscale",
            "AdaptiveSROneStepDistilledSR",
            (1800, 40),
            (340, 420),
            {
                "one_step_sr": Link("distill"),
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
            "save", "SaveImage", (1800, 520), (380, 420), {"images": Link("upscale"), "filename_prefix": "AdaptiveSR"}
        ),
    ),
    title="Train a student of one step",
    title_zh="训练单步学生模型",
)
