"""StableSR: the paper's chain of 200 steps, and the four steps of its turbo form."""

from dataclasses import dataclass

from .parts import Link, Node, Workflow, note

COLUMN, WIDTH = 400, 340
LICENCE = "StableSR's files are S-Lab 1.0: **not for commercial use**."
# Brackets are escaped: the scripts of the paper give the text encoder the literal characters, ComfyUI would read weights.
POSITIVE = r"\(masterpiece:2\), \(best quality:2\), \(realistic:2\), \(very clear:2\)"
NEGATIVE = r"3d, cartoon, anime, sketches, \(worst quality:2\), \(low quality:2\)"


@dataclass(frozen=True)
class Form:
    """What the two workflows do not share."""

    name: str
    checkpoint: str
    stablesr: str
    steps: int
    about: str
    settings: str
    prompts: tuple[Node, ...]
    negative: Link


def _at(column: int, y: int) -> tuple[int, int]:
    return 60 + COLUMN * column, y


def _workflow(form: Form) -> Workflow:
    return Workflow(form.name, (*_inputs(form), *form.prompts, *_sampling(form), *_output(form)))


def _inputs(form: Form) -> tuple[Node, ...]:
    return (
        note("about", (20, 40), (380, 520), "Read me", form.about),
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            _at(1, 40),
            (WIDTH, 100),
            {"ckpt_name": form.checkpoint},
            title="Load Checkpoint",
        ),
        Node("load_stablesr", "AdaptiveSRLoadStableSR", _at(1, 200), (WIDTH, 90), {"model_name": form.stablesr}),
        Node("load_cfw", "AdaptiveSRLoadCFW", _at(1, 350), (WIDTH, 110), {"cfw_name": "vqgan_cfw_00011.ckpt"}),
        Node("load_image", "LoadImage", _at(1, 520), (WIDTH, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "enlarge",
            "ImageScaleBy",
            _at(2, 520),
            (WIDTH, 90),
            {"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0},
            title="Enlarge four times",
        ),
        Node(
            "encode",
            "VAEEncode",
            _at(2, 670),
            (WIDTH, 60),
            {"pixels": Link("enlarge"), "vae": Link("checkpoint", 2)},
            title="LR latent",
        ),
    )


def _sampling(form: Form) -> tuple[Node, ...]:
    return (
        Node(
            "apply",
            "AdaptiveSRStableSRApply",
            _at(3, 40),
            (WIDTH, 170),
            {
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": form.negative,
                "stablesr": Link("load_stablesr"),
                "lr_latent": Link("encode"),
                "strength": 1.0,
            },
        ),
        Node(
            "guider",
            "CFGGuider",
            _at(3, 270),
            (WIDTH, 110),
            {"model": Link("apply"), "positive": Link("apply", 1), "negative": Link("apply", 2), "cfg": 1.0},
        ),
        Node(
            "sampler",
            "AdaptiveSRRegionSampler",
            _at(3, 440),
            (WIDTH, 180),
            {
                "sampler_name": "ddpm",
                "tile_size": 512,
                "overlap": 256,
                "merge_mode": "aggregate",
                "region_batch": 0,
            },
        ),
        Node(
            "sigmas",
            "AdaptiveSRSpacedSigmas",
            _at(3, 680),
            (WIDTH, 110),
            {"model": Link("checkpoint"), "steps": form.steps, "denoise": 1.0},
        ),
        Node("noise", "RandomNoise", _at(4, 40), (WIDTH, 90), {"noise_seed": 42}, title="Noise"),
        Node(
            "sample",
            "SamplerCustomAdvanced",
            _at(4, 190),
            (WIDTH, 130),
            {
                "noise": Link("noise"),
                "guider": Link("guider"),
                "sampler": Link("sampler"),
                "sigmas": Link("sigmas"),
                "latent_image": Link("encode"),
            },
            title="Sample",
        ),
    )


def _output(form: Form) -> tuple[Node, ...]:
    return (
        Node(
            "decode",
            "AdaptiveSRCFWDecode",
            _at(4, 380),
            (WIDTH, 180),
            {
                "vae": Link("load_cfw", 1),
                "cfw": Link("load_cfw"),
                "latent": Link("sample"),
                "lr_image": Link("enlarge"),
                "w": 0.5,
                "tile": 0,
                "overlap": 64,
            },
        ),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            _at(4, 620),
            (WIDTH, 120),
            {"image": Link("decode"), "reference": Link("enlarge"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "save",
            "SaveImage",
            _at(5, 40),
            (WIDTH, 340),
            {"images": Link("color"), "filename_prefix": f"AdaptiveSR_{form.name}"},
        ),
        note("settings", _at(5, 440), (WIDTH, 420), "What the settings do", form.settings),
        Node(
            "compare",
            "ImageCompare",
            _at(6, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("enlarge"), "image_b": Link("color")},
            title="Before | after",
        ),
    )


def _prompt(key: str, y: int, text: str, title: str) -> Node:
    return Node(
        key, "CLIPTextEncode", _at(2, y), (WIDTH, 170), {"clip": Link("checkpoint", 1), "text": text}, title=title
    )


FILES = """## StableSR{form}

| node | file | folder |
|---|---|---|
| Load Checkpoint | {base} | `checkpoints` |
| Load StableSR | {file} | `adaptivesr/stablesr` |
| Load CFW | `vqgan_cfw_00011` | `adaptivesr/cfw` |

Folders are below `ComfyUI/models`; press **R** after putting files there, choose your picture, press **Run**. {licence}

The picture is enlarged first and encoded; that latent, with the noise of timestep 999 on it, is where sampling starts, and StableSR \
looks at the clean one at every step. {more}"""

TILES = (
    "* **Region Sampler**: *aggregate* with tiles of 512 and an overlap of 256 pixels is the paper's aggregation 64 / 32 of latents. Tiles of "
    "768 and an overlap of 384 for 768v.\n"
    "* **Enlarge**: the shorter side should reach 512 pixels after it; enlarge tiny pictures more and reduce the result.\n"
)
DECODING = (
    "* **CFW Decode** *w*: 0 is plain decoding, 1 closest to the LR image; the effect is subtle. *tile* 512 needs less memory.\n"
    "* **Wavelet Color Fix**: *adain* is the authors' other choice."
)

STABLESR = _workflow(
    Form(
        name="stablesr",
        checkpoint="v2-1_512-ema-pruned.safetensors",
        stablesr="stablesr_000117.ckpt",
        steps=200,
        about=FILES.format(
            form="",
            base="SD 2.1 base, `v2-1_512-ema-pruned`",
            file="`stablesr_000117` or its small *webui* file",
            licence=LICENCE,
            more="The 768v file goes with SD 2.1 768, `v2-1_768-ema-pruned`.\n\n200 steps are the paper's; 20 take a tenth of the time.",
        ),
        settings="* **Spaced Sigmas** *steps*: 200 as in the paper, 20 for a quick look.\n"
        "* **Guidance** is off, as in the paper's tables: *cfg* 1, empty prompt. The authors' scripts also have *cfg* 7 with the negative prompt "
        f"that stands here and the prompt `{POSITIVE}`: sharper, less faithful, twice the time. The backslashes keep ComfyUI from reading weights.\n"
        + TILES
        + DECODING,
        prompts=(
            _prompt("positive", 40, "", "Prompt (empty, as trained)"),
            _prompt("negative", 270, NEGATIVE, "Negative prompt (from cfg above 1)"),
        ),
        negative=Link("negative"),
    )
)

STABLESR_TURBO = _workflow(
    Form(
        name="stablesr_turbo",
        checkpoint="sd_turbo.safetensors",
        stablesr="stablesr_turbo.ckpt",
        steps=4,
        about=FILES.format(
            form=" turbo",
            base="SD Turbo, `sd_turbo`",
            file="`stablesr_turbo`",
            licence=f"{LICENCE} SD Turbo has a licence of its own, Stability AI's.",
            more="Four steps, an empty prompt and no guidance, as the authors run it.",
        ),
        settings="* **Spaced Sigmas** *steps*: 4. More get blurrier, fewer leave artifacts.\n"
        "* **CFGGuider** *cfg* stays at 1: the authors run turbo without guidance.\n" + TILES + DECODING,
        prompts=(_prompt("positive", 40, "", "Prompt (empty, as trained)"),),
        negative=Link("positive"),
    )
)
