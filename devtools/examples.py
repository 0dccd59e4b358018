"""The example workflows, described once each: nodes, places, inputs and notes. `workflows` makes files of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FRONTEND_NOTE = "MarkdownNote"


@dataclass(frozen=True)
class Link:
    """Output `slot` of the node with that key."""

    key: str
    slot: int = 0


@dataclass(frozen=True)
class Node:
    """A node of a workflow: where it stands, and its inputs by name (values, or Link)."""

    key: str
    type: str
    pos: tuple[int, int]
    size: tuple[int, int]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Workflow:
    """A file name and its nodes, in the order in which they get their ids."""

    name: str
    nodes: Sequence[Node]


def note(key: str, pos: tuple[int, int], size: tuple[int, int], title: str, text: str) -> Node:
    """A text on the canvas; it does not run."""
    return Node(key, FRONTEND_NOTE, pos, size, title=title, text=text)


ONE_STEP_SR = Workflow(
    "one_step_sr",
    (
        note(
            "about",
            (40, 40),
            (380, 330),
            "Read me",
            "## One-step super-resolution\n\n1. Choose your picture in **Load Image**.\n2. Press **Run**.\n\n"
            "The *embedded* weights are a tiny demonstration model of ours, trained on synthetic images: nothing to download, "
            "modest quality.\n\nFor photographs put a published checkpoint (SinSR, TAD-SR, ResShift) into "
            "`models/adaptivesr/one_step`, its autoencoder `autoencoder_vq_f4` into `models/adaptivesr/autoencoder`, press R and "
            "choose it in **Load One-Step SR**. Those weights are for non-commercial use.",
        ),
        Node(
            "load_model",
            "AdaptiveSRLoadOneStepSR",
            (460, 40),
            (340, 240),
            {"model_name": "embedded: one step", "autoencoder": "auto", "preset": "auto"},
        ),
        Node("load_image", "LoadImage", (460, 340), (340, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "upscale",
            "AdaptiveSROneStepDistilledSR",
            (860, 40),
            (340, 420),
            {
                "one_step_sr": Link("load_model"),
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
            "color",
            "AdaptiveSRWaveletColorFix",
            (1260, 40),
            (320, 160),
            {"image": Link("upscale"), "reference": Link("load_image"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "save",
            "SaveImage",
            (1260, 280),
            (320, 340),
            {"images": Link("color"), "filename_prefix": "AdaptiveSR"},
        ),
        Node(
            "compare",
            "ImageCompare",
            (1640, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("load_image"), "image_b": Link("color")},
            title="Before | after",
        ),
        note(
            "settings",
            (860, 540),
            (340, 280),
            "What the settings do",
            "* **scale**, or **width** / **height** for an exact size.\n"
            "* **steps** 0 runs the weights as they were trained.\n"
            "* **tile** and **overlap** are in pixels of the input: smaller tiles need less memory. One noise field covers the "
            "picture and tiles are blended before decoding.\n"
            "* The **report** output counts network calls and pixels.\n"
            "* **Before | after** shows its slider in ComfyUI's *Nodes 2.0* rendering; elsewhere look at *Save Image*.",
        ),
    ),
)

TILED_REGION_UPSCALE = Workflow(
    "tiled_region_upscale",
    (
        note(
            "about",
            (40, 40),
            (380, 400),
            "Read me",
            "## Upscale with your own checkpoint\n\n1. Choose an SD 1.5 or SDXL checkpoint in **Load Checkpoint**.\n"
            "2. Choose your picture in **Load Image** and its new width in **Resize** (height 0 keeps the aspect).\n3. Say in **What it shows** what is there; press **Run**.\n\n"
            "The enlarged picture is encoded, given a third of the noise, and sampled region by region. **denoise** 0.2 keeps the picture, "
            "0.5 invents freely.\n\nFor SDXL set **tile_size** to 1024. ControlNets (tile, depth, lines) go between the prompts and the sampler "
            "with *Apply ControlNet*: their hints are cropped to each region.",
        ),
        Node(
            "checkpoint",
            "CheckpointLoaderSimple",
            (460, 40),
            (340, 100),
            {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
            title="Load Checkpoint",
        ),
        Node("load_image", "LoadImage", (460, 200), (340, 340), {"image": "example.png"}, title="Your picture"),
        Node(
            "resize",
            "ImageScale",
            (460, 600),
            (340, 140),
            {
                "image": Link("load_image"),
                "upscale_method": "lanczos",
                "width": 2048,
                "height": 0,
                "crop": "disabled",
            },
            title="Resize",
        ),
        Node(
            "positive",
            "CLIPTextEncode",
            (860, 40),
            (340, 130),
            {"clip": Link("checkpoint", 1), "text": "a sharp, detailed photograph"},
            title="What it shows",
        ),
        Node(
            "negative",
            "CLIPTextEncode",
            (860, 230),
            (340, 130),
            {"clip": Link("checkpoint", 1), "text": "blurry, noise, jpeg artifacts"},
            title="What it does not",
        ),
        Node("encode", "VAEEncode", (860, 420), (340, 60), {"pixels": Link("resize"), "vae": Link("checkpoint", 2)}),
        Node(
            "sample",
            "AdaptiveSRTiledRegionSampler",
            (1260, 40),
            (340, 460),
            {
                "model": Link("checkpoint"),
                "positive": Link("positive"),
                "negative": Link("negative"),
                "latent": Link("encode"),
                "seed": 0,
                "steps": 20,
                "cfg": 6.0,
                "sampler_name": "dpmpp_2m",
                "scheduler": "karras",
                "denoise": 0.35,
                "tile_size": 512,
                "overlap": 128,
                "merge_mode": "consensus",
                "region_batch": 0,
            },
        ),
        Node("decode", "VAEDecode", (1260, 560), (340, 60), {"samples": Link("sample"), "vae": Link("checkpoint", 2)}),
        Node(
            "color",
            "AdaptiveSRWaveletColorFix",
            (1260, 680),
            (340, 120),
            {"image": Link("decode"), "reference": Link("resize"), "mode": "wavelet", "levels": 5},
        ),
        Node(
            "save",
            "SaveImage",
            (1660, 40),
            (340, 340),
            {"images": Link("color"), "filename_prefix": "AdaptiveSR_tiled"},
        ),
        Node(
            "compare",
            "ImageCompare",
            (2060, 40),
            (480, 580),
            {"compare_view": ["", ""], "image_a": Link("resize"), "image_b": Link("color")},
            title="Before | after",
        ),
        Node(
            "report",
            "AdaptiveSRRegionReport",
            (1660, 440),
            (340, 100),
            {"report": Link("sample", 2), "image": Link("color"), "opacity": 0.45},
        ),
        Node(
            "map",
            "PreviewImage",
            (1660, 600),
            (340, 340),
            {"images": Link("report")},
            title="Steps per region",
        ),
        note(
            "settings",
            (860, 540),
            (340, 300),
            "What the settings do",
            "* **tile_size** is the size the model was trained on; **overlap** hides seams.\n"
            "* **merge_mode** *consensus*: neighbours agree after every call.\n"
            "* **budget** takes a mask: white regions get all steps, black ones a single one.\n"
            "* **region_batch** 0 asks ComfyUI how many regions fit into memory at once.\n"
            "* **Upscale Plan** counts calls and memory before you run.\n"
            "* When decoding runs out of memory, use *VAE Decode (Tiled)*.",
        ),
    ),
)

WORKFLOWS = (ONE_STEP_SR, TILED_REGION_UPSCALE)
