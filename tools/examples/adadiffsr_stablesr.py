"""AdaDiffSR on its paper's base, StableSR with Stable Diffusion 2.1: dynamic timesteps now, trained parts when there are some."""

from .parts import MODELS, NO_PLACE, SD21_BASE, UPSCALE, Link, Node, Workflow, files_list, note, takes, whole_cells
from .stablesr import CFW, LICENCE, PARTS

WIDTH = 340


def _at(column: int, y: int) -> tuple[int, int]:
    return 60 + 400 * column, y


ADADIFFSR = Workflow(
    "adadiffsr",
    (
        note(
            "about",
            (20, 40),
            (380, 620),
            "Read me",
            "## AdaDiffSR on StableSR\n\n"
            "Choose your picture, press **Run**.\n\n**You get** it four times larger. The chain has 200 steps; each region takes as many of "
            "them as it gains from, as *Steps per region* shows.\n\n"
            + takes("256 to 1024 pixels", cpu="at most 70 minutes", gpu="at most 90 seconds")
            + "\n\n"
            + files_list(SD21_BASE, PARTS, CFW)
            + f" {LICENCE}\n\nThe paper's trained parts were never published: **PFJ Inject passes everything on unchanged** until you take the mute "
            "off **Your trained parts** (Ctrl+M), choose a file of yours there, and back end *regressor* in MMLE Gain Estimator.",
        ),
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            _at(1, 40),
            (WIDTH, 100),
            {"ckpt_name": SD21_BASE.name},
            title="Load Checkpoint",
        ),
        Node(
            "load_stablesr",
            "AdaptiveSRLoadStableSR",
            _at(1, 200),
            (WIDTH, 90),
            {"model_name": PARTS.name, "load_base": False},
        ),
        Node("load_cfw", "AdaptiveSRLoadCFW", _at(1, 350), (WIDTH, 110), {"cfw_name": CFW.name}),
        Node("load_image", "LoadImage", _at(1, 520), (WIDTH, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "prompt",
            "CLIPTextEncode",
            _at(2, 40),
            (WIDTH, 120),
            {"clip": Link("checkpoint", 1), "text": ""},
            title="Prompt (empty, as trained)",
            group=MODELS,
            collapsed=True,
        ),
        Node(
            "enlarge",
            "ImageScaleBy",
            _at(2, 220),
            (WIDTH, 90),
            {"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0},
            title="Enlarge four times",
            collapsed=True,
        ),
        Node(
            "encode",
            "VAEEncode",
            _at(2, 370),
            (WIDTH, 60),
            {"pixels": Link("pad"), "vae": Link("checkpoint", 2)},
            title="LR latent",
            group=UPSCALE,
        ),
        Node(
            "gain",
            "AdaptiveSRMMLEGainEstimator",
            _at(2, 490),
            (WIDTH, 260),
            {
                "reference": Link("encode"),
                "gain_models": Link("trained"),
                "back_end": "proxies",
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
            "apply",
            "AdaptiveSRStableSRApply",
            _at(3, 40),
            (WIDTH, 170),
            collapsed=True,
            inputs={
                "model": Link("checkpoint"),
                "positive": Link("prompt"),
                "negative": Link("prompt"),
                "stablesr": Link("load_stablesr"),
                "lr_latent": Link("encode"),
                "strength": 1.0,
            },
        ),
        Node(
            "inject",
            "AdaptiveSRPFJInject",
            _at(3, 270),
            (WIDTH, 170),
            collapsed=True,
            inputs={
                "model": Link("apply"),
                "positive": Link("apply", 1),
                "negative": Link("apply", 2),
                "gain": Link("gain"),
                "gain_models": Link("trained"),
                "strength": 1.0,
            },
        ),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            _at(3, 500),
            (WIDTH, 480),
            {
                "model": Link("inject"),
                "positive": Link("inject", 1),
                "negative": Link("inject", 2),
                "latent": Link("encode"),
                "gain": Link("gain"),
                "seed": 42,
                "steps": 200,
                "cfg": 1.0,
                "sampler_name": "ddpm",
                "scheduler": "normal",
                "denoise": 1.0,
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
                **NO_PLACE,
            },
        ),
        Node(
            "decode",
            "AdaptiveSRCFWDecode",
            _at(4, 40),
            (WIDTH, 180),
            collapsed=True,
            inputs={
                "vae": Link("load_cfw", 1),
                "cfw": Link("load_cfw"),
                "latent": Link("sample"),
                "lr_image": Link("pad"),
                "w": 0.5,
                "tile": 0,
                "overlap": 64,
            },
        ),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            _at(4, 280),
            (WIDTH, 120),
            {"image": Link("crop"), "reference": Link("enlarge"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "report",
            "AdaptiveSRRegionReport",
            _at(4, 460),
            (WIDTH, 100),
            {"report": Link("sample", 2), "image": Link("color"), "opacity": 0.45},
        ),
        Node("map", "PreviewImage", _at(4, 620), (WIDTH, 340), {"images": Link("report")}, title="Steps per region"),
        Node(
            "save",
            "SaveImage",
            _at(5, 40),
            (WIDTH, 340),
            {"images": Link("color"), "filename_prefix": "AdaptiveSR_adadiffsr"},
        ),
        note(
            "settings",
            _at(5, 440),
            (WIDTH, 460),
            "What the settings do",
            "* **tau** (MMLE Gain Estimator): larger means fewer steps. Adjust it by *Steps per region*.\n"
            "* **Tiled Region Sampler**: the paper's chain and regions; tiles of 768 for the 768v files.\n"
            "* **CFW Decode** *w*: 0 is plain decoding.\n"
            "* **Enlarge**: the shorter side should reach 512 pixels after it.",
        ),
        Node(
            "compare",
            "ImageCompare",
            _at(6, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("enlarge"), "image_b": Link("color")},
            title="Before | after",
        ),
        *whole_cells("enlarge"),
        Node(
            "trained",
            "AdaptiveSRLoadMMLEPFJ",
            _at(1, 480),
            (WIDTH, 90),
            {"model_name": "embedded: teacher, 15 steps"},
            title="Your trained parts (muted)",
            muted=True,
            collapsed=True,
        ),
    ),
    title="AdaDiffSR on StableSR",
    title_zh="AdaDiffSR（基于 StableSR）",
)
