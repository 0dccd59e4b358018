"""StableSR: the paper's chain of 200 steps, and the four steps of its turbo form."""

from dataclasses import dataclass

from .parts import (
    SD21_BASE,
    SD_TURBO,
    File,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    color_fix,
    compare,
    encode,
    enlarge_four_times,
    files_list,
    picture,
    prompt,
    sample_custom,
    save,
    settings,
    whole_cells,
)

PUBLISHED = "Iceclear/StableSR", "https://huggingface.co/Iceclear/StableSR"
PARTS = File("Load StableSR", "stablesr_000117.ckpt", *PUBLISHED, "adaptivesr/stablesr")
TURBO_PARTS = File("Load StableSR", "stablesr_turbo.ckpt", *PUBLISHED, "adaptivesr/stablesr")
CFW = File("Load CFW", "vqgan_cfw_00011.ckpt", *PUBLISHED, "adaptivesr/cfw")
LICENCE = "StableSR's files are S-Lab 1.0: **not for commercial use**."
# Brackets are escaped: the scripts of the paper give the text encoder the literal characters, ComfyUI would read weights.
POSITIVE = r"\(masterpiece:2\), \(best quality:2\), \(realistic:2\), \(very clear:2\)"
NEGATIVE = r"3d, cartoon, anime, sketches, \(worst quality:2\), \(low quality:2\)"


@dataclass(frozen=True)
class Form:
    """What the two workflows do not share."""

    name: str
    checkpoint: File
    stablesr: File
    steps: int
    about: str
    settings: str
    prompts: tuple[Node, ...]
    negative: Link


def _workflow(form: Form) -> Workflow:
    return Workflow(form.name, (about(form.about), *_inputs(form), *form.prompts, *_sampling(form), *_output(form)))


def _inputs(form: Form) -> tuple[Node, ...]:
    return (
        checkpoint(form.checkpoint),
        Node("load_stablesr", "AdaptiveSRLoadStableSR", inputs={"model_name": form.stablesr.name}),
        Node("load_cfw", "AdaptiveSRLoadCFW", inputs={"cfw_name": CFW.name}),
        picture(),
        enlarge_four_times(),
        encode("pad", "LR latent"),
    )


def _sampling(form: Form) -> tuple[Node, ...]:
    return (
        Node(
            "apply",
            "AdaptiveSRStableSRApply",
            inputs={
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
            inputs={"model": Link("apply"), "positive": Link("apply", 1), "negative": Link("apply", 2), "cfg": 1.0},
        ),
        Node(
            "sampler",
            "AdaptiveSRRegionSampler",
            inputs={
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
            inputs={"model": Link("checkpoint"), "steps": form.steps, "denoise": 1.0},
        ),
        Node("noise", "RandomNoise", inputs={"noise_seed": 42}, title="Noise"),
        sample_custom(Link("noise"), Link("sampler"), Link("sigmas"), Link("encode")),
    )


def _output(form: Form) -> tuple[Node, ...]:
    return (
        Node(
            "decode",
            "AdaptiveSRCFWDecode",
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
        color_fix("crop", "enlarge"),
        save("color", f"AdaptiveSR_{form.name}"),
        compare("enlarge", "color"),
        settings(form.settings),
        *whole_cells("enlarge"),
    )


FILES = """## StableSR{form}

1. Put the three files in place.
2. Choose your picture.
3. Press **Run**.

The picture is enlarged first and encoded; that latent, with the noise of timestep 999 on it, is where sampling starts, and StableSR \
looks at the clean one at every step. {more}

{files}

{licence}"""

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
        checkpoint=SD21_BASE,
        stablesr=PARTS,
        steps=200,
        about=FILES.format(
            form="",
            files=files_list(SD21_BASE, PARTS, CFW),
            licence=LICENCE,
            more="Its small *webui* file works as well; the 768v file goes with SD 2.1 768, `v2-1_768-ema-pruned`.\n\nChange first: **steps** of "
            "*Spaced Sigmas*. 200 are the paper's; 20 take a tenth of the time.",
        ),
        settings="* **Spaced Sigmas** *steps*: 200 as in the paper, 20 for a quick look.\n"
        "* **Guidance** is off, as in the paper's tables: *cfg* 1, empty prompt. The authors' scripts also have *cfg* 7 with the negative prompt "
        f"that stands here and the prompt `{POSITIVE}`: sharper, less faithful, twice the time. The backslashes keep ComfyUI from reading weights.\n"
        + TILES
        + DECODING,
        prompts=(
            prompt("positive", "", "Prompt (empty, as trained)"),
            prompt("negative", NEGATIVE, "Negative prompt (from cfg above 1)"),
        ),
        negative=Link("negative"),
    )
)

STABLESR_TURBO = _workflow(
    Form(
        name="stablesr_turbo",
        checkpoint=SD_TURBO,
        stablesr=TURBO_PARTS,
        steps=4,
        about=FILES.format(
            form=" turbo",
            files=files_list(SD_TURBO, TURBO_PARTS, CFW),
            licence=f"{LICENCE} SD Turbo has a licence of its own, Stability AI's.",
            more="Four steps, an empty prompt and no guidance, as the authors run it.\n\nChange first: **w** of *CFW Decode*.",
        ),
        settings="* **Spaced Sigmas** *steps*: 4. More get blurrier, fewer leave artifacts.\n"
        "* **CFGGuider** *cfg* stays at 1: the authors run turbo without guidance.\n" + TILES + DECODING,
        prompts=(prompt("positive", "", "Prompt (empty, as trained)"),),
        negative=Link("positive"),
    )
)
