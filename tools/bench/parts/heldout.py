"""Held-out pictures: files inside the scikit-image and scikit-learn wheels, never trained on, no download.

Degradations: "clean" is Pillow's antialiased bicubic /4 in 8 bit; "mild" is blur sigma 1.2, the same reduction, noise of
4 levels and JPEG of a fixed quality per picture between 60 and 90.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
import sklearn.datasets
from PIL import Image

from ...embedded_weights.degrade_mild import CLEAN, Degradation, degrade

Pixels = npt.NDArray[np.uint8]
SETS: dict[str, tuple[str, ...]] = {
    "photos": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png", "china.jpg", "flower.jpg"),
    "textures": ("brick.png", "grass.png", "gravel.png", "coins.png"),
    "docs": ("page.png", "text.png"),
}  # fmt: skip
TUNING = ("astronaut.png", "chelsea.png", "china.jpg")  # settings were compared on these; no setting on the others
QUALITIES = (60, 90, 68, 82, 75, 64, 86, 71)
DEGRADATIONS = ("clean", "mild")


def picture(name: str) -> Pixels:
    """The named picture as (H, W, 3) RGB, cropped to multiples of four."""
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images")
    path = next((folder / name for folder in folders if (folder / name).exists()), None)
    if path is None:
        raise FileNotFoundError(f"{name} is not in {[str(folder) for folder in folders]}: install scikit-image 0.26")
    image = np.asarray(Image.open(path).convert("RGB"))
    return image[: image.shape[0] // 4 * 4, : image.shape[1] // 4 * 4].copy()


def low_resolution(image: Pixels, degradation: str, index: int) -> Pixels:
    """The LR version of picture number index of its set."""
    if degradation == "clean":
        how = CLEAN
    else:
        how = Degradation(blur=(1.2, 1.2), noise=4.0, jpeg_quality=QUALITIES[index % len(QUALITIES)])
    return degrade(image, how, np.random.default_rng((4, index)))
