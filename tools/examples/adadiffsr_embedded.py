"""All parts of AdaDiffSR on the embedded teacher: nothing to download, runs on a CPU."""

from .parts import NO_PLACE, Link, Node, Workflow, note, takes

WIDTH = 340


def _at(column: int, y: int) -> tuple[int, int]:
    return 60 + 400 * column, y


ADADIFFSR_EMBEDDED = Workflow(
    "adadiffsr_embedded",
    (
        note(
            "about",
            (20, 40),
            (380, 500),
            "Read me",
            "## AdaDiffSR, a demonstration with nothing to download\n\n**New here, or after a good picture?** Open *Quick upscale* or *With your "
            "checkpoint*: this shows how the method works, on a tiny model that paints worse than one step does.\n\n"
            "1. Choose a **small** picture in **Your picture** (128 to 256 pixels).\n2. Press **Run**.\n\n"
            "**You get** it four times larger, and *Steps per region*: after every call MMLE tells what a region gained, and how far it jumps "
            "follows; PFJ puts features of your picture into its next call.\n\n"
            + takes("128 to 512 pixels", cpu="about a minute", gpu="about 10 seconds", measured="one core"),
        ),
        Node(
            "load_model",
            "AdaptiveSRLoadOneStepSR",
            _at(1, 40),
            (WIDTH, 240),
            {"model_name": "embedded: teacher, 15 steps", "autoencoder": "auto", "preset": "auto"},
        ),
        Node(
            "load_parts",
            "AdaptiveSRLoadMMLEPFJ",
            _at(1, 340),
            (WIDTH, 90),
            {"model_name": "embedded: teacher, 15 steps"},
        ),
        Node("load_image", "LoadImage", _at(1, 490), (WIDTH, 340), {"image": "example.png"}, title="Your picture"),
        Node("prompt", "AdaptiveSREmptyPrompt", _at(2, 40), (WIDTH, 60), {"model": Link("load_model", 1)}),
        Node(
            "condition",
            "AdaptiveSRResShiftConditioning",
            _at(2, 160),
            (WIDTH, 130),
            {
                "one_step_sr": Link("load_model"),
                "positive": Link("prompt"),
                "negative": Link("prompt"),
                "image": Link("load_image"),
            },
        ),
        Node(
            "gain",
            "AdaptiveSRMMLEGainEstimator",
            _at(2, 350),
            (WIDTH, 260),
            {
                "reference": Link("condition", 2),
                "gain_models": Link("load_parts"),
                "back_end": "regressor",
                "tau": 0.005,
                "mode": "ladder",
                "metrics": "psnr, sharpness",
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
            "inject",
            "AdaptiveSRPFJInject",
            _at(3, 40),
            (WIDTH, 170),
            collapsed=True,
            inputs={
                "model": Link("load_model", 1),
                "positive": Link("condition"),
                "negative": Link("condition", 1),
                "gain": Link("gain"),
                "gain_models": Link("load_parts"),
                "strength": 1.0,
            },
        ),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            _at(3, 270),
            (WIDTH, 480),
            {
                "model": Link("inject"),
                "positive": Link("inject", 1),
                "negative": Link("inject", 2),
                "latent": Link("condition", 2),
                "gain": Link("gain"),
                "seed": 0,
                "steps": 40,
                "cfg": 1.0,
                "sampler_name": "ddpm",
                "scheduler": "normal",
                "denoise": 1.0,
                "tile_size": 128,
                "overlap": 32,
                "merge_mode": "consensus",
                "region_batch": 0,
                **NO_PLACE,
            },
        ),
        Node(
            "decode",
            "VAEDecode",
            _at(4, 40),
            (WIDTH, 60),
            {"samples": Link("sample"), "vae": Link("load_model", 2)},
        ),
        Node(
            "enlarge",
            "ImageScaleBy",
            _at(4, 160),
            (WIDTH, 90),
            {"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0},
            title="Bicubic, to compare with",
        ),
        Node(
            "report",
            "AdaptiveSRRegionReport",
            _at(4, 310),
            (WIDTH, 100),
            {"report": Link("sample", 2), "image": Link("decode"), "opacity": 0.45},
        ),
        Node("map", "PreviewImage", _at(4, 470), (WIDTH, 340), {"images": Link("report")}, title="Steps per region"),
        Node(
            "save",
            "SaveImage",
            _at(5, 40),
            (WIDTH, 340),
            {"images": Link("decode"), "filename_prefix": "AdaptiveSR_adadiffsr"},
        ),
        note(
            "settings",
            _at(5, 440),
            (WIDTH, 380),
            "What the settings do",
            "* **tau** (MMLE Gain Estimator): larger means fewer steps.\n"
            "* **strength** (PFJ Inject): 0 switches the injection off.\n"
            "* **Tiled Region Sampler**: regions of 128 pixels, 25 of them in a result of 512; 40 steps at most each.\n"
            "* **W** warmup, **G** growing, **S** stable, **H** falling, **X** ended: a letter for every call of a region, on the map where "
            "there is room.",
        ),
        Node(
            "compare",
            "ImageCompare",
            _at(6, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("enlarge"), "image_b": Link("decode")},
            title="Before | after",
        ),
    ),
    title="AdaDiffSR, a small demonstration",
    title_zh="AdaDiffSR 小型演示",
)
