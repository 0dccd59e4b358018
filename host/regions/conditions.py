"""Everything spatial in a guider's conditions, cropped to the regions of one model call and gated row by row.

The host asks only the first row of a batch whether a condition or a ControlNet is active, and cuts areas out of the
tensor it is given: both are wrong once rows are regions at noise levels of their own. Here ranges become factors of the
rows' masks, and areas become masks of the canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.conds
import torch
from comfy.controlnet import ControlBase
from comfy.hooks import HookGroup
from torch import Tensor

from ...imaging.transfer import upload
from ...sampling.adaptive.types import Row, crop_rows
from ..control.adapter import HostControl
from ..gains.feature_injection import PFJ, InjectionCall, InjectionRun
from .controls import ControlChains

Conds = dict[str, list[dict[str, Any]] | None]
TEXT = "c_crossattn"
"""The host's name of a UNet's text."""
FUZZ = 8
"""Cells over which the host fades the border of an area."""


@dataclass(frozen=True)
class _Condition:
    """One condition of the canvas: values without anything spatial, its mask (M, H, W) or None, its range of sigma."""

    values: dict[str, Any]
    mask: Tensor | None
    start: float
    end: float
    seen: Tensor | None = None
    """Where the mask is not zero, (M, H, W) on the CPU: a call that sees none of it leaves the condition out."""

    def is_seen(self, rows: Sequence[Row], active: Sequence[bool]) -> bool:
        """Whether any of the active rows lies on the mask."""
        if self.seen is None:
            return True
        maps = self.seen[:, None]
        return any(bool(crop_rows(maps, [row]).any()) for row, on in zip(rows, active) if on)


class _Crops:
    """What a call's rows see of the prepared conditions; conditions that share a tensor share its crop, too."""

    def __init__(self, rows: Sequence[Row], size: Sequence[int]) -> None:
        self.rows, self._size = rows, size
        self._made: dict[tuple[type, int], Any] = {}

    def of(self, value: Any) -> Any:
        """`crop_model_cond` of one value."""
        shared = getattr(value, "cond", None)
        if not isinstance(shared, Tensor):
            return crop_model_cond(value, self.rows, self._size)
        key = type(value), id(shared)
        made: Any = self._made.get(key)
        if made is None:
            made = self._made[key] = crop_model_cond(value, self.rows, self._size)
        return value if made is value else value._copy_with(made.cond)


class CanvasConditions:
    """The conditions of a guider for a whole canvas, from which those of a call are cut."""

    def __init__(
        self,
        conds: Conds,
        shape: Sequence[int],
        device: torch.device,
        injection: InjectionRun | None = None,
        text_width: int | None = None,
    ) -> None:
        """conds as the host has prepared them for the canvas (B, C, H, W); injection where PFJ Inject has marked them; text_width: the
        channels of text that the network reads, None where that is not known.

        Raises ValueError that names the condition for anything that cannot follow its region, and for text of another width.
        """
        self._size = tuple(shape[-2:])
        self._device = device
        self._injection = injection
        self._text_width = text_width
        self._controls = ControlChains(self._size, device)
        self._conds = {
            name: None if entries is None else [self._prepare(name, entry) for entry in entries]
            for name, entries in conds.items()
        }

    def crop(self, rows: Sequence[Row], sigmas: Sequence[float]) -> Conds:
        """Cuts the conditions for rows at these noise levels; those that are silent in every row are left out."""
        injection = None if self._injection is None else self._injection.for_call(rows)
        controls = self._controls.for_call(rows, sigmas, injection)
        crops = _Crops(rows, self._size)
        return {
            name: None
            if entries is None
            else [cut for entry in entries if (cut := self._cut(entry, crops, sigmas, controls, injection)) is not None]
            for name, entries in self._conds.items()
        }

    def _prepare(self, name: str, entry: dict[str, Any]) -> _Condition:
        if "gligen" in entry:
            raise _refused("GLIGEN boxes", name, "they name positions of the whole picture; remove the GLIGEN node")
        values = {k: v for k, v in entry.items() if k not in ("area", "mask", "timestep_start", "timestep_end")}
        for key, value in entry["model_conds"].items():
            _check_model_cond(name, key, value, self._size)
        _check_text(name, entry["model_conds"].get(TEXT), self._text_width)
        mask = canvas_mask(entry.get("mask"), entry.get("area"), self._size, self._device)
        return _Condition(
            values,
            mask,
            float(entry.get("timestep_start", float("inf"))),
            float(entry.get("timestep_end", 0.0)),
            None if mask is None else (mask != 0).cpu(),
        )

    def _cut(
        self,
        entry: _Condition,
        crops: _Crops,
        sigmas: Sequence[float],
        controls: Callable[[HostControl], ControlBase | None],
        injection: InjectionCall | None,
    ) -> dict[str, Any] | None:
        rows, active = crops.rows, [entry.end <= sigma <= entry.start for sigma in sigmas]
        _check_keyframes(entry.values.get("hooks"), sigmas)
        if not any(active) or not entry.is_seen(rows, active):
            return None
        cut = dict(entry.values)
        if entry.mask is not None or not all(active):
            cut["mask"] = _row_masks(entry.mask, rows, active, self._device)
        cut["model_conds"] = {key: crops.of(value) for key, value in entry.values["model_conds"].items() if key != PFJ}
        if injection is not None and PFJ in entry.values["model_conds"]:
            cut["model_conds"] = injection.model_conds(cut["model_conds"])
        if "control" in cut and (control := controls(cut.pop("control"))) is not None:
            cut["control"] = control
        return cut


def canvas_mask(
    mask: Tensor | None, area: Sequence[int] | None, size: Sequence[int], device: torch.device
) -> Tensor | None:
    """Returns the weights (M, H, W) of a condition: its mask, inside of its area; an area alone fades at borders inside the canvas.

    area is (height, width, y, x) in cells, as the host resolves it.
    """
    if area is None:
        return mask
    height, width, y, x = area
    height, width = min(size[0] - y, height), min(size[1] - x, width)
    weights = torch.zeros((1, *size), device=device)
    if mask is None:
        lines = _fade(height, y != 0, y + height < size[0]), _fade(width, x != 0, x + width < size[1])
        weights[:, y : y + height, x : x + width] = torch.outer(*lines).to(device)
        return weights
    weights[:, y : y + height, x : x + width] = 1.0
    return mask * weights


def _fade(length: int, before: bool, after: bool) -> Tensor:
    line = torch.ones(length)
    ramp = torch.arange(1, min(FUZZ, length // 4) + 1) / max(1, min(FUZZ, length // 4))
    if before:
        line[: len(ramp)] *= ramp
    if after and len(ramp):
        line[-len(ramp) :] *= ramp.flip(0)
    return line  # (length,)


def _row_masks(mask: Tensor | None, rows: Sequence[Row], active: Sequence[bool], device: torch.device) -> Tensor:
    """Returns (N, h, w): the crop of each row, zero where the condition is out of its range."""
    gate = upload(torch.tensor(active, dtype=torch.float32), device).view(-1, 1, 1)
    if mask is None:
        return gate.expand(-1, rows[0].region.height, rows[0].region.width)
    return crop_rows(mask.unsqueeze(1), rows).squeeze(1) * gate


def crop_model_cond(value: object, rows: Sequence[Row], size: Sequence[int]) -> object:
    """Fits a prepared condition of the host to the rows: cropped where it has the canvas's size, chosen by image where it has a batch."""
    if isinstance(value, comfy.conds.CONDConstant) or not isinstance(value, comfy.conds.CONDRegular):
        return value
    if isinstance(value, comfy.conds.CONDList):
        return value._copy_with([_by_image(tensor, rows) for tensor in value.cond])
    if value.cond.ndim == 4 and tuple(value.cond.shape[-2:]) == tuple(size):
        return value._copy_with(crop_rows(value.cond, rows))
    return value._copy_with(_by_image(value.cond, rows))


def _by_image(tensor: Tensor, rows: Sequence[Row]) -> Tensor:
    """Returns one entry for each row where entries belong to images; a single one is left to the host, which repeats it."""
    return tensor if len(tensor) == 1 else torch.stack([tensor[row.image % len(tensor)] for row in rows])


def _check_model_cond(name: str, key: str, value: object, size: Sequence[int]) -> None:
    """Refuses what has a spatial extent other than the canvas's."""
    content = getattr(value, "cond", None)
    shaped = isinstance(value, comfy.conds.CONDNoiseShape)
    for tensor in content if isinstance(content, (list, tuple)) else [content]:
        if not isinstance(tensor, Tensor):
            continue
        fits = tensor.ndim == 4 and tuple(tensor.shape[-2:]) == tuple(size) and not isinstance(content, (list, tuple))
        if (shaped or tensor.ndim >= 4) and not fits:
            what = f"'{key}' of shape {tuple(tensor.shape)}"
            raise _refused(
                what,
                name,
                "reference latents and other lists of pictures cannot be cut into regions; remove the node that adds it"
                if isinstance(content, (list, tuple))
                else f"expected the latent's {size[0]} x {size[1]} cells; remove the node that adds it or resize its input",
            )


def _check_text(name: str, value: object, width: int | None) -> None:
    """Refuses text of another width than the network reads, which would fail inside it."""
    found = getattr(value, "cond", None)
    if width is not None and isinstance(found, Tensor) and found.shape[-1] != width:
        raise ValueError(
            f"The {name} conditioning has text of {found.shape[-1]} channels: expected {width}, as the MODEL reads (SD 1.x 768, SD 2.x 1024, "
            "SDXL 2048); take the prompt from the text encoder of the same checkpoint."
        )


def _check_keyframes(hooks: HookGroup | None, sigmas: Sequence[float]) -> None:
    """Refuses scheduled weight hooks in a call of several noise levels: the host asks them once for the whole batch."""
    if hooks is None or len(set(sigmas)) == 1:
        return
    if any(len(hook.hook_keyframe.keyframes) > 1 for hook in hooks.hooks):
        raise ValueError(
            "The conditioning has hooks with keyframes, and regions stand at different noise levels in one model call: expected "
            "hooks of constant strength; remove the keyframes, or use merge mode 'aggregate' without a budget map."
        )


def _refused(what: str, name: str, advice: str) -> ValueError:
    return ValueError(f"The {name} conditioning holds {what}, which cannot be cropped to regions: {advice}.")
