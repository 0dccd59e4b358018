"""Golden checks of StableSR's work on pixels: enlarging and padding, the pixel splitter, sharpening, the CFW block."""

from __future__ import annotations

import re

import torch

from ...imaging.degradation.parts import gaussian_kernel, usm_sharpen
from ...imaging.resize import bicubic_resize, reflect_to
from ...imaging.stablesr_tiles import offcentre_window
from ...imaging.tiles import Merger, Region, starts
from ...models.cfw import FuseBlock, FuseConfig
from ...models.layers import Factory
from ...models.state_dict import load_weights
from .hash_weights import CHECKS as GENERATOR_CHECKS
from .stablesr_tiles import metadata
from .vectors import NETWORK, Checks, Golden

PADDED_TO = 32  # pixels, of the reference's preprocessing
PATCH_FUNCTION = r"patch number n \(1-based\): patch\*\(1\+([0-9.]+) n\)\+([0-9.]+) n"
STRENGTH = re.compile(r"out\.w([0-9.]+)")


def check_pixel_splitter(golden: Golden) -> None:
    meta, image = metadata(golden), golden["in.image"]
    match = re.fullmatch(PATCH_FUNCTION, meta["patch_fn"])
    if match is None:
        raise ValueError(f"The patch function is {meta['patch_fn']!r}, expected the form {PATCH_FUNCTION!r}.")
    gain, offset = (float(number) for number in match.groups())
    height, width = image.shape[-2:]
    size, stride = meta["patch"], meta["stride"]
    regions = [
        Region(y, x, min(size, height), min(size, width))
        for x in starts(width, size, stride)
        for y in starts(height, size, stride)
    ]
    golden.expect("mid.order_h0h1w0w1", torch.tensor([[r.y, r.y + r.height, r.x, r.x + r.width] for r in regions]))
    window = torch.from_numpy(offcentre_window(regions[0].height, regions[0].width)).float()
    merger = Merger(image.shape, window)
    for number, region in enumerate(regions, start=1):
        patches = image[(..., *region.slices)] * (1 + gain * number) + offset * number
        for row, patch in enumerate(patches):
            merger.add(patch, region, row)
    golden.expect("out.gathered", merger.finish(), NETWORK)


def reference_only_preprocess(golden: Golden) -> None:
    for height, width, scale, smallest in metadata(golden)["cases"]:
        prefix = f"h{height}_w{width}_up{scale}_in{smallest}."
        factor = max(smallest / min(height, width), scale)
        enlarged = bicubic_resize(golden[f"{prefix}in"], int(height * factor), int(width * factor)).clamp(-1, 1)
        golden.expect(f"{prefix}up", enlarged)
        golden.expect(f"{prefix}pad", reflect_to(enlarged, *_reference_padding(*enlarged.shape[-2:])))


def _reference_padding(height: int, width: int) -> tuple[int, int]:
    """Sides that the reference pads to: when either is no multiple, both grow, one that was a multiple by a whole one.

    The pack pads no side that fits.
    """
    if height % PADDED_TO == 0 and width % PADDED_TO == 0:
        return height, width
    return (height // PADDED_TO + 1) * PADDED_TO, (width // PADDED_TO + 1) * PADDED_TO


def check_sharpening(golden: Golden) -> None:
    size = golden["mid.kernel51"].shape[-1]
    golden.expect("mid.kernel51", gaussian_kernel(size, 8.0)[None])
    golden.expect("out.sharp", usm_sharpen(golden["in.image"]))


def check_fuse_block(golden: Golden) -> None:
    weights = golden.below("w.")
    block = FuseBlock(FuseConfig.from_state_dict(weights), Factory(torch.nn, device="meta"))
    load_weights(block, weights)
    with torch.no_grad():
        for key, match in ((key, STRENGTH.fullmatch(key)) for key in golden.tensors):
            if match:
                golden.expect(key, block(golden["in.enc"], golden["in.dec"], float(match[1])), NETWORK)


CHECKS: Checks = {
    **GENERATOR_CHECKS,
    "11_cfw_fuse_block": check_fuse_block,
    "19_pixel_splitter": check_pixel_splitter,
    "20_preprocess": reference_only_preprocess,
    "22_usm_sharp": check_sharpening,
}
