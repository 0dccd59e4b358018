"""What example workflows are made of: nodes with their inputs, links, notes, and the nodes that most of them share.

Where nodes stand is decided by `tools.layout`: in groups, by kind, from left to right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PAD_OR_CROP = "AdaptiveSRPadOrCrop"
FRONTEND_NOTE = "MarkdownNote"
MODELS, PROMPTS, PICTURE, UPSCALE, RESULT = "Models", "Prompts", "Your picture", "Upscale", "Result"
"""Groups, in reading order."""
EMBEDDED_BASE = "embedded: small base"
NO_PLACE = {"noise_top": -1, "noise_left": -1}
"""Tiled Region Sampler on a whole canvas: the page writes these widgets into every prompt."""


@dataclass(frozen=True)
class Link:
    """Output `slot` of the node with that key."""

    key: str
    slot: int = 0


@dataclass(frozen=True)
class Node:
    """A node of a workflow and its inputs by name (values, or Link).

    pos and size are wishes: of nodes that could stand in either order the one with the smaller y comes first, and nodes
    that show text or a picture get this height. group: None takes the one that the node's type belongs to. A muted node
    stands ready on the page: it does not run, nor is anything linked to it, until the user takes the mute off. collapsed: drawn
    as its title alone, beside the types that always are.
    """

    key: str
    type: str
    pos: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (340, 0)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    text: str | None = None
    group: str | None = None
    muted: bool = False
    collapsed: bool = False


@dataclass(frozen=True)
class Workflow:
    """A file name and its nodes, in the order in which they get their ids; titles are what our menu in the page shows."""

    name: str
    nodes: Sequence[Node]
    title: str = ""
    title_zh: str = ""


def note(key: str, pos: tuple[int, int], size: tuple[int, int], title: str, text: str) -> Node:
    """A text on the canvas; it does not run. Notes stand at the left in the order of the workflow."""
    return Node(key, FRONTEND_NOTE, pos, size, title=title, text=text)


def about(text: str) -> Node:
    """What the workflow does, what it needs, what to change first."""
    return note("about", (0, 0), (400, 0), "Read me", text)


def takes(what: str, *, cpu: str, gpu: str, measured: str = "") -> str:
    """How long a run takes; measured: on which CPU. Without it both are estimates from counted arithmetic (docs/measurements.md)."""
    if measured:
        return f"**Time**, {what}: CPU **{cpu}** (measured, {measured}), GPU **{gpu}** (estimated)."
    return f"**Time**, {what}: CPU **{cpu}**, GPU **{gpu}** (both estimated, not measured)."


def settings(text: str) -> Node:
    """What the widgets do that are worth changing."""
    return note("settings", (0, 0), (400, 0), "What the settings do", text)


@dataclass(frozen=True)
class File:
    """A file that the user puts in place: node that loads it, name, where it is published, folder below models."""

    loader: str
    name: str
    source: str
    address: str
    folder: str


_HUB = "https://huggingface.co/{}/resolve/main/{}"
DOWNLOADS: Mapping[str, tuple[str, str]] = {
    "sd_turbo.safetensors": (_HUB.format("stabilityai/sd-turbo", "sd_turbo.safetensors"), "checkpoints"),
    "v1-5-pruned-emaonly-fp16.safetensors": (
        _HUB.format("Comfy-Org/stable-diffusion-v1-5-archive", "v1-5-pruned-emaonly-fp16.safetensors"),
        "checkpoints",
    ),
    "control_v11f1e_sd15_tile.pth": (
        _HUB.format("lllyasviel/ControlNet-v1-1", "control_v11f1e_sd15_tile.pth"),
        "controlnet",
    ),
    "noise_predictor_sd_turbo_v5.pth": (
        _HUB.format("OAOA/InvSR", "noise_predictor_sd_turbo_v5.pth"),
        "adaptivesr_noise_predictor",
    ),
    "stablesr_000117.ckpt": (_HUB.format("Iceclear/StableSR", "stablesr_000117.ckpt"), "adaptivesr_stablesr"),
    "stablesr_768v_000139.ckpt": (_HUB.format("Iceclear/StableSR", "stablesr_768v_000139.ckpt"), "adaptivesr_stablesr"),
    "stablesr_turbo.ckpt": (_HUB.format("Iceclear/StableSR", "stablesr_turbo.ckpt"), "adaptivesr_stablesr"),
    "vqgan_cfw_00011.ckpt": (_HUB.format("Iceclear/StableSR", "vqgan_cfw_00011.ckpt"), "adaptivesr_cfw"),
}
"""Address and model folder, as the host names it, of files that the page may offer to download; docs/downloads.md says
where each address was taken from."""


SD_TURBO = File(
    "Load Checkpoint",
    "sd_turbo.safetensors",
    "stabilityai/sd-turbo",
    "https://huggingface.co/stabilityai/sd-turbo",
    "checkpoints",
)
SD15 = File(
    "Load Checkpoint",
    "v1-5-pruned-emaonly-fp16.safetensors",
    "Comfy-Org/stable-diffusion-v1-5-archive",
    "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive",
    "checkpoints",
)
SD21_BASE = File(
    "Load Checkpoint", "v2-1_512-ema-pruned.safetensors", "left its hub in 2025: any copy", "", "checkpoints"
)


def files_list(*files: File) -> str:
    """Markdown that says which file goes where, with links to the pages that publish them."""
    lines = ["**Files** (fetched only if you press the page's *Download*, or by hand)", ""]
    for file in files:
        source = f"[{file.source}]({file.address})" if file.address else file.source
        lines.append(f"* **{file.loader}**: `{file.name}` ({source}) into `models/{file.folder}`")
    return "\n".join([*lines, "", "Press **R** after putting files there and choose them in these nodes."])


WITHOUT_FILES = (
    "**Without these files** (the small base that ships is for ControlNets alone): `python dev.py host --small-models` starts a ComfyUI with "
    "small stand-ins in their place: the training runs there, and teaches nothing."
)
"""For notes of trainings beside a published base."""


def embedded_base() -> Node:
    """The small base that ships: MODEL, conditioning and VAE."""
    return Node("checkpoint", "AdaptiveSRLoadEmbeddedBase", inputs={"base": EMBEDDED_BASE}, group=MODELS)


def checkpoint(file: File) -> Node:
    return Node("checkpoint", "CheckpointLoaderSimple", inputs={"ckpt_name": file.name}, title="Load Checkpoint")


def picture() -> Node:
    return Node("load_image", "LoadImage", size=(340, 340), inputs={"image": "example.png"}, title="Your picture")


def enlarge_to(width: int, method: str = "lanczos", title: str = "Resize") -> Node:
    """To a width in pixels; height 0 keeps the aspect."""
    inputs = {"image": Link("load_image"), "upscale_method": method, "width": width, "height": 0, "crop": "disabled"}
    return Node("resize", "ImageScale", inputs=inputs, title=title)


def enlarge_four_times() -> Node:
    inputs = {"image": Link("load_image"), "upscale_method": "bicubic", "scale_by": 4.0}
    return Node("enlarge", "ImageScaleBy", inputs=inputs, title="Enlarge four times")


def whole_cells(large: str) -> tuple[Node, Node]:
    """Nodes that extend the enlarged picture for VAE Encode ("pad"), which cuts off what fills no cell, and cut the decoded one back
    ("crop"). They come last, so that the nodes of the workflow keep their numbers."""
    pad = {"image": Link(large), "multiple": 8}
    crop = {"image": Link("decode"), "multiple": 8, "original": Link(large)}
    return (
        Node("pad", PAD_OR_CROP, inputs=pad, title="Extend to whole cells", group=PICTURE),
        Node("crop", PAD_OR_CROP, inputs=crop, title="Cut back", group=RESULT),
    )


def encode(image: str, title: str | None = None) -> Node:
    inputs = {"pixels": Link(image), "vae": Link("checkpoint", 2)}
    return Node("encode", "VAEEncode", inputs=inputs, title=title, group=UPSCALE)


def prompt(key: str, text: str, title: str, height: int = 130) -> Node:
    inputs = {"clip": Link("checkpoint", 1), "text": text}
    return Node(key, "CLIPTextEncode", size=(340, height), inputs=inputs, title=title)


def decode(latent: Link) -> Node:
    return Node("decode", "VAEDecode", inputs={"samples": latent, "vae": Link("checkpoint", 2)})


def color_fix(image: str, reference: str) -> Node:
    inputs = {"image": Link(image), "reference": Link(reference), "mode": "wavelet", "levels": 5}
    return Node("color", "AdaptiveSRWaveletColorFix", inputs=inputs)


def save(image: str, prefix: str) -> Node:
    return Node("save", "SaveImage", size=(340, 340), inputs={"images": Link(image), "filename_prefix": prefix})


def compare(before: str, after: str) -> Node:
    """A slider between two pictures; in the front end's classic renderer our extension draws it."""
    inputs = {"compare_view": ["", ""], "image_a": Link(before), "image_b": Link(after)}
    return Node("compare", "ImageCompare", size=(400, 400), inputs=inputs, title="Before | after")


def preview(key: str, image: Link, title: str) -> Node:
    return Node(key, "PreviewImage", size=(400, 340), inputs={"images": image}, title=title)


def region_report(latent_node: str, image: str) -> tuple[Node, ...]:
    """The heat map of Tiled Region Sampler over the result."""
    inputs = {"report": Link(latent_node, 2), "image": Link(image), "opacity": 0.45}
    return Node("report", "AdaptiveSRRegionReport", inputs=inputs), preview("map", Link("report"), "Steps per region")


def sample_custom(noise: Link, sampler: Link, sigmas: Link, latent: Link) -> Node:
    """The host's sampler of five sockets; its guider has the key guider."""
    inputs = {"noise": noise, "guider": Link("guider"), "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    return Node("sample", "SamplerCustomAdvanced", inputs=inputs, title="Sample")
