"""Reflection around an image that is too small for a patch, and its exact removal from the enlarged result."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .resize import pad_amount, reflect_around


@dataclass(frozen=True)
class Padding:
    """Where an image of (inner_height, inner_width) lies in one of (height, width), in its pixels."""

    top: int
    left: int
    height: int
    width: int
    inner_height: int
    inner_width: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing is added."""
        return (self.height, self.width) == (self.inner_height, self.inner_width)

    def extend(self, image: Tensor) -> Tensor:
        """The padded image (B, C, height, width)."""
        return reflect_around(image, self.top, self.left, self.height, self.width)

    def crop(self, image: Tensor, scale: int) -> Tensor:
        """The part of an image enlarged by `scale` that belongs to the original."""
        rows = slice(scale * self.top, scale * (self.top + self.inner_height))
        return image[..., rows, scale * self.left : scale * (self.left + self.inner_width)]


def to_patch(height: int, width: int, patch: int, multiple: int) -> Padding:
    """A side below the patch grows to it on both ends, others at their end to a multiple; what is before is a multiple too."""

    def side(length: int) -> tuple[int, int]:
        if length >= patch:
            return 0, length + pad_amount(length, multiple)
        return (patch - length) // 2 // multiple * multiple, patch

    (top, rows), (left, columns) = side(height), side(width)
    return Padding(top, left, rows, columns, height, width)


def to_chop(height: int, width: int, patch: int, multiple: int) -> Padding:
    """As `to_patch`, by the arithmetic of InvSR's published code: no rounding before, and multiples for images above a patch.

    The code reflects again and again, each time as far as the image reaches; that is one reflection to and fro. A side of
    one pixel, at which it never ends, is repeated.
    """
    (top, rows), (left, columns) = _grown(height, patch), _grown(width, patch)
    if (rows, columns) != (patch, patch):
        rows, columns = rows + pad_amount(rows, multiple), columns + pad_amount(columns, multiple)
    return Padding(top, left, rows, columns, height, width)


def _grown(length: int, patch: int) -> tuple[int, int]:
    """Pixels before, and the new length."""
    if length == 1:
        return (patch - 1) // 2, patch
    before = 0
    while length < patch:
        lead = min((patch - length) // 2, length - 1)
        before += lead
        length += lead + min(patch - length - lead, length - 1)
    return before, length
