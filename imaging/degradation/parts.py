"""Parts of the real-world degradation model (Real-ESRGAN, Wang et al. 2021, section 3) as ResShift and TAD-SR use them.

Images are (B, 3, H, W) RGB in [0, 1]; kernels are square float32 tensors with an odd side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU T.81 (JPEG), annex K, rows of horizontal frequency.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


# --- Blur kernels -----------------------------------------------------------------------------------------------------


def gaussian_kernel(size: int, sigma_x: float, sigma_y: float | None = None, rotation: float = 0.0) -> Tensor:
    """exp(-Q / 2), normalised to sum 1; isotropic without sigma_y. Sigmas in pixels, rotation in radians, (size, size)."""
    return generalized_kernel(size, 1.0, sigma_x, sigma_y, rotation)


def generalized_kernel(
    size: int, beta: float, sigma_x: float, sigma_y: float | None = None, rotation: float = 0.0
) -> Tensor:
    """exp(-Q^beta / 2), normalised to sum 1 (Real-ESRGAN, section 3.1)."""
    return _normalised(torch.exp(-0.5 * _squared_distance(size, sigma_x, sigma_y, rotation) ** beta))


def plateau_kernel(
    size: int, beta: float, sigma_x: float, sigma_y: float | None = None, rotation: float = 0.0
) -> Tensor:
    """1 / (1 + Q^beta), normalised to sum 1 (Real-ESRGAN, section 3.1)."""
    return _normalised(1.0 / (1.0 + _squared_distance(size, sigma_x, sigma_y, rotation) ** beta))


def sinc_kernel(size: int, cutoff: float, padded_size: int | None = None) -> Tensor:
    """w J1(w r) / (2 pi r), a circular low pass of cutoff w radians per pixel, sum 1 (Real-ESRGAN, eq. 6).

    Zero-padded on all sides to `padded_size` after the normalisation.
    """
    offsets = _offsets(size)
    radius = torch.hypot(offsets[:, None], offsets[None, :])  # (size, size)
    # The centre's limit is w^2 / (4 pi); radius 1 there only avoids 0 / 0.
    safe = radius.clamp(min=1.0)
    kernel = cutoff * torch.special.bessel_j1(cutoff * safe) / (2.0 * math.pi * safe)
    kernel = _normalised(torch.where(radius == 0, cutoff**2 / (4.0 * math.pi), kernel))
    return pad_kernel(kernel, padded_size or size)


def pad_kernel(kernel: Tensor, size: int) -> Tensor:
    """Zeros around a kernel so that kernels of different sides fit in one batch, (size, size)."""
    margin, odd = divmod(size - kernel.shape[-1], 2)
    if margin < 0 or odd:
        raise ValueError(f"Cannot centre a kernel of side {kernel.shape[-1]} in side {size}.")
    return F.pad(kernel, (margin,) * 4)


def _offsets(size: int) -> Tensor:
    """Offsets from the centre in float64 (CPU only: a kernel is small, and its tails are far below float32's step)."""
    if size % 2 == 0:
        raise ValueError(f"A blur kernel needs an odd side, got {size}.")
    return torch.arange(size, dtype=torch.float64) - size // 2


def _squared_distance(size: int, sigma_x: float, sigma_y: float | None, rotation: float) -> Tensor:
    """Q = (u / sigma_x)^2 + (v / sigma_y)^2 in axes turned by `rotation`; X runs along columns, Y along rows."""
    offsets = _offsets(size)
    x, y = offsets[None, :], offsets[:, None]
    cos, sin = math.cos(rotation), math.sin(rotation)
    u, v = cos * x + sin * y, cos * y - sin * x
    return (u / sigma_x) ** 2 + (v / (sigma_y or sigma_x)) ** 2


def _normalised(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()


def filter_per_sample(image: Tensor, kernels: Tensor) -> Tensor:
    """Correlates image b with kernels[b] (B, k, k) under reflect padding; sides must exceed k // 2."""
    import kornia.filters  # noqa: PLC0415  importing kornia takes over a second, which the pack's start must not pay

    if min(image.shape[-2:]) <= kernels.shape[-1] // 2:
        raise ValueError(
            f"An image of {tuple(image.shape[-2:])} is too small for reflect padding under a kernel of side "
            f"{kernels.shape[-1]}; both sides must exceed {kernels.shape[-1] // 2}."
        )
    return kornia.filters.filter2d(image, kernels, border_type="reflect")


def usm_sharpen(
    image: Tensor, size: int = 51, sigma: float = 8.0, weight: float = 0.5, threshold: float = 10.0
) -> Tensor:
    """Unsharp masking of training targets where they differ from their blur by more than `threshold` of 255 levels.

    (Real-ESRGAN, Wang et al. 2021, and its released code.) The mask is blurred too, so that the change sets in softly. Reflect padding; sides must
    exceed size // 2. kornia's own unsharp mask has no threshold.
    """
    import kornia.filters  # noqa: PLC0415  see filter_per_sample

    if min(image.shape[-2:]) <= size // 2:
        raise ValueError(
            f"An image of {tuple(image.shape[-2:])} is too small to be sharpened with a kernel of side {size}; both sides must "
            f"exceed {size // 2}."
        )
    line = gaussian_kernel(size, sigma).sum(0, keepdim=True).to(image)  # (1, size): the kernel is line^T line

    def blur(x: Tensor) -> Tensor:
        return kornia.filters.filter2d_separable(x, line, line, border_type="reflect")

    residual = image - blur(image)
    mask = blur((residual.abs() * 255.0 > threshold).to(image))
    sharp = (image + weight * residual).clamp(0.0, 1.0)
    return mask * sharp + (1.0 - mask) * image


# --- Quantisation and JPEG --------------------------------------------------------------------------------------------


def quantize_to_8bit(image: Tensor) -> Tensor:
    """Clamps to [0, 1] and rounds to the nearest of the 256 levels."""
    return (image * 255.0).round().clamp(0.0, 255.0) / 255.0


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """JPEG at `quality` (B,) in 1..100, without entropy coding; 4:2:0 chroma, not differentiable through the rounding.

    Written out because kornia's codec differs from the one the models were trained with: here the luma table is
    transposed, table entries may fall below 1, rounding is exact, and borders are padded with black.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % 16, 0, -height % 16))
    luma, blue, red = _rgb_to_ycbcr(padded * 255.0).split(1, dim=1)  # (B, 1, H, W), luma in 0..255, chroma around 0
    factor = _table_factor(quality)[:, None, None, None, None]  # (B, 1, 1, 1, 1)
    luma = _code_plane(luma - 128.0, torch.tensor(_LUMA, dtype=image.dtype).T, factor) + 128.0
    chroma_table = torch.tensor(_CHROMA, dtype=image.dtype)
    chroma = [_code_plane(F.avg_pool2d(plane, 2), chroma_table, factor) for plane in (blue, red)]
    planes = [luma, *(F.interpolate(plane, scale_factor=2, mode="nearest") for plane in chroma)]
    decoded = _ycbcr_to_rgb(torch.cat(planes, dim=1)) / 255.0
    return decoded.clamp(0.0, 1.0)[..., :height, :width]


def _table_factor(quality: Tensor) -> Tensor:
    """Scale of the quantisation tables: 50 / q below quality 50, else 2 - q / 50."""
    return torch.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality) / 100.0


def _rgb_to_ycbcr(image: Tensor) -> Tensor:
    """JFIF luma and chroma of an image in 0..255; the chroma is centred on 0."""
    red, green, blue = image.split(1, dim=1)
    return torch.cat(
        (
            0.299 * red + 0.587 * green + 0.114 * blue,
            -0.168736 * red - 0.331264 * green + 0.5 * blue,
            0.5 * red - 0.418688 * green - 0.081312 * blue,
        ),
        dim=1,
    )


def _ycbcr_to_rgb(image: Tensor) -> Tensor:
    """Inverse of `_rgb_to_ycbcr` with JFIF's rounded coefficients."""
    luma, blue, red = image.split(1, dim=1)
    return torch.cat((luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue), dim=1)


def _code_plane(plane: Tensor, table: Tensor, factor: Tensor) -> Tensor:
    """Quantises the 8x8 block DCT of a plane (B, 1, H, W) by table * factor and decodes it."""
    height, width = plane.shape[-2:]
    blocks = plane.unflatten(-1, (width // 8, 8)).unflatten(-3, (height // 8, 8)).transpose(-2, -3)
    blocks = blocks.flatten(1, 3)  # (B, N, 8, 8)
    basis = _dct_basis().to(plane.dtype).to(plane.device)
    step = (table.to(plane) * factor).flatten(1, 2)  # (B, 1, 8, 8)
    coefficients = torch.round(basis @ blocks @ basis.T / step) * step
    decoded = (basis.T @ coefficients @ basis).reshape(-1, 1, height // 8, width // 8, 8, 8)
    return decoded.transpose(-2, -3).reshape(plane.shape)


def _dct_basis() -> Tensor:
    """Orthonormal DCT-II of length 8, one frequency per row, (8, 8)."""
    k = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * k[None, :] + 1) * k[:, None] * math.pi / 16) / 2.0
    basis[0] /= math.sqrt(2.0)
    return basis
