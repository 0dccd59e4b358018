"""StableSR in one node: the paper's chain at 512 and at 768 pixels, and the four steps of its turbo form."""

from dataclasses import dataclass

from .parts import (
    EMBEDDED_BASE,
    SD_TURBO,
    File,
    Link,
    Node,
    Workflow,
    about,
    checkpoint,
    compare,
    embedded_base,
    files_list,
    picture,
    save,
    settings,
    takes,
)

PUBLISHED = "Iceclear/StableSR", "https://huggingface.co/Iceclear/StableSR"
PARTS = File("Load StableSR", "stablesr_000117.ckpt", *PUBLISHED, "adaptivesr/stablesr")
PARTS_768V = File("Load StableSR", "stablesr_768v_000139.ckpt", *PUBLISHED, "adaptivesr/stablesr")
TURBO_PARTS = File("Load StableSR", "stablesr_turbo.ckpt", *PUBLISHED, "adaptivesr/stablesr")
CFW = File("Load CFW", "vqgan_cfw_00011.ckpt", *PUBLISHED, "adaptivesr/cfw")
LICENCE = "StableSR's files are S-Lab 1.0: **not for commercial use**."
# Brackets are escaped: the scripts of the paper give the text encoder the literal characters, ComfyUI would read weights.
POSITIVE = r"\(masterpiece:2\), \(best quality:2\), \(realistic:2\), \(very clear:2\)"
NEGATIVE = r"3d, cartoon, anime, sketches, \(worst quality:2\), \(low quality:2\)"


@dataclass(frozen=True)
class Form:
    """What the workflows do not share. base None: MODEL and CLIP lie in the StableSR file."""

    name: str
    stablesr: File
    preset: str
    about: str
    settings: str
    title: str
    title_zh: str
    base: File | None = None


def _workflow(form: Form) -> Workflow:
    return Workflow(
        form.name,
        (
            about(form.about),
            *_models(form),
            picture(),
            *_prompts(form),
            Node("upscale", "AdaptiveSRStableSRUpscale", inputs=_upscale_inputs(form)),
            save("upscale", f"AdaptiveSR_{form.name}"),
            compare("load_image", "upscale"),
            settings(form.settings),
        ),
        title=form.title,
        title_zh=form.title_zh,
    )


def _models(form: Form) -> tuple[Node, ...]:
    whole = form.base is None
    inputs = {"model_name": form.stablesr.name, "load_base": whole}
    parts = Node("load_stablesr", "AdaptiveSRLoadStableSR", inputs=inputs)
    cfw = Node("load_cfw", "AdaptiveSRLoadCFW", inputs={"cfw_name": CFW.name})
    return (parts, cfw) if form.base is None else (checkpoint(form.base), parts, cfw)


def _base(form: Form, part: int) -> Link:
    """MODEL (0) or CLIP (1) of the base."""
    return Link("load_stablesr", 2 + part) if form.base is None else Link("checkpoint", part)


def _prompts(form: Form) -> tuple[Node, ...]:
    texts = {"positive": ("", "Prompt (empty, as trained)")}
    if form.base is None:
        texts["negative"] = (NEGATIVE, "Negative prompt (from cfg above 1)")
    return tuple(
        Node(key, "CLIPTextEncode", size=(340, 130), inputs={"clip": _base(form, 1), "text": text}, title=title)
        for key, (text, title) in texts.items()
    )


def _upscale_inputs(form: Form) -> dict[str, object]:
    return {
        "model": _base(form, 0),
        "positive": Link("positive"),
        "negative": Link("negative" if form.base is None else "positive"),
        "stablesr": Link("load_stablesr"),
        "vae": Link("load_cfw", 1),
        "image": Link("load_image"),
        "preset": form.preset,
        "scale": 4.0,
        "seed": 42,
        "w": 0.5,
        "color_fix": "adain",
        "steps": 0,
        "cfg": 1.0,
        "tile_size": 0,
        "decode_tile": 0,
        "cfw": Link("load_cfw"),
    }


FROM_TO = "256 to 1024 pixels"
FILES = """## StableSR{form}

1. Put the files in place.
2. Choose your picture.
3. Press **Run**.

**You get** pictures of any size four times larger, with new fine detail. {more}

{time}

{files}

{licence}"""

SETTINGS = (
    "* **w**: 0 is plain decoding, 1 closest to the LR image; the effect is subtle.\n"
    "* **color_fix**: *adain* is the paper's, *wavelet* the authors' other choice.\n"
    "* **decode_tile** 512 needs less memory.\n"
    "* In parts (*StableSR Apply*, *Region Sampler*, *CFW Decode*): see the workflow `adadiffsr`."
)
CHAINS = (
    "* **preset**: *paper, 200 steps*, or *DDIM, 20 steps* in a tenth of the time.\n"
    "* **cfg** is 1, as in the paper's tables: no guidance, empty prompt. The authors' scripts also have 7 with the negative prompt that "
    f"stands here and the prompt `{POSITIVE}`: sharper, less faithful, twice the time. The backslashes keep ComfyUI from reading weights.\n"
)

STABLESR = _workflow(
    Form(
        name="stablesr",
        stablesr=PARTS,
        preset="paper, 200 steps",
        about=FILES.format(
            form="",
            time=takes(FROM_TO, cpu="about 45 minutes", gpu="about a minute"),
            files=files_list(PARTS, CFW),
            licence=LICENCE,
            more="The file holds Stable Diffusion 2.1 too, which its hub no longer has; with the small *webui* file, switch *load_base* off and "
            "connect Load Checkpoint.\n\nChange first: **preset**. *DDIM, 20 steps* takes a tenth of the time.",
        ),
        settings=CHAINS + SETTINGS,
        title="StableSR, 512 pixels",
        title_zh="StableSR（512 像素）",
    )
)

STABLESR_768V = _workflow(
    Form(
        name="stablesr_768v",
        stablesr=PARTS_768V,
        preset="paper, 200 steps",
        about=FILES.format(
            form=", 768 pixels",
            time=takes(FROM_TO, cpu="about 85 minutes", gpu="about 100 seconds"),
            files=files_list(PARTS_768V, CFW),
            licence=LICENCE,
            more="Its base predicts v and was trained on 768 pixels: regions have that size, and smaller results are reached by way of "
            "it.\n\nChange first: **preset**. *DDIM, 20 steps* takes a tenth of the time.",
        ),
        settings=CHAINS + SETTINGS,
        title="StableSR, 768 pixels",
        title_zh="StableSR（768 像素）",
    )
)

STABLESR_TURBO = _workflow(
    Form(
        name="stablesr_turbo",
        stablesr=TURBO_PARTS,
        preset="turbo, 4 steps",
        base=SD_TURBO,
        about=FILES.format(
            form=" turbo",
            time=takes(FROM_TO, cpu="about 2 minutes", gpu="about 2 seconds"),
            files=files_list(SD_TURBO, TURBO_PARTS, CFW),
            licence=f"{LICENCE} SD Turbo has a licence of its own, Stability AI's.",
            more="Four steps, an empty prompt and no guidance, as the authors run it.\n\nChange first: **w**.",
        ),
        settings="* **steps** 0 means the preset's 4. More get blurrier, fewer leave artifacts.\n"
        "* **cfg** stays at 1: the authors run turbo without guidance.\n" + SETTINGS,
        title="StableSR turbo, 4 steps",
        title_zh="StableSR Turbo（4 步）",
    )
)

STABLESR_EMBEDDED = Workflow(
    "stablesr_embedded",
    (
        about(
            "## StableSR, a demonstration with nothing to download\n\n**After a good picture?** Open *Quick upscale*: this shows how the method "
            "works, on a tiny model of 1.9 million parameters.\n\n1. Choose a **small** picture in **Your picture** (64 to 128 pixels).\n"
            "2. Press **Run**.\n\n**You get** it four times larger. The base knows no picture at all; the time-aware encoder tells it of "
            "yours at every step, and SFT layers turn its features that way.\n\n"
            + takes("128 to 512 pixels", cpu="about three minutes", gpu="about 5 seconds", measured="one core")
            + "\n\nChange first: **steps**, among the settings that the node keeps folded. More of them sharpen, and cost fidelity."
        ),
        embedded_base(),
        Node("load_stablesr", "AdaptiveSRLoadStableSR", inputs={"model_name": EMBEDDED_BASE, "load_base": False}),
        picture(),
        Node(
            "upscale",
            "AdaptiveSRStableSRUpscale",
            inputs={
                "model": Link("checkpoint"),
                "positive": Link("checkpoint", 1),
                "negative": Link("checkpoint", 1),
                "stablesr": Link("load_stablesr"),
                "vae": Link("checkpoint", 2),
                "image": Link("load_image"),
                "preset": "paper, 200 steps",
                "scale": 4.0,
                "seed": 42,
                "w": 0.5,
                "color_fix": "wavelet",
                "steps": 20,
                "cfg": 1.0,
                "tile_size": 256,
                "decode_tile": 0,
            },
        ),
        save("upscale", "AdaptiveSR_stablesr_embedded"),
        compare("load_image", "upscale"),
        settings(
            "* **steps** 20 of the preset's 200: the base is small.\n"
            "* **w** does nothing: there is no CFW for this base, whose decoder only rearranges pixels.\n"
            "* **cfg** 1: the base knows no text that could guide it.\n"
            "* **tile_size** 256: the base was trained on pieces of 64 pixels and takes any size."
        ),
    ),
    title="StableSR, a small demonstration",
    title_zh="StableSR 小型演示",
)
