"""StableSR's parts at work inside a MODEL: features of the LR latent once for every model call, applied block by block.

Wrappers of the host do it. The one around the model finds the parts that belong to the model which is running (each device
has its own copy); the one around the UNet sees the timesteps that the UNet is given, encodes, and adds the patch for residual
blocks to the options of this one call. Nothing is kept when the call is over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import (
    Downsample,
    ResBlock,
    TimestepBlock,
    UNetModel,
    Upsample,
    forward_timestep_embed,
)
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.samplers import CFGGuider
from torch import Tensor

from ...imaging.transfer import upload
from ...models.spade import modulate, modulated_block
from ...models.struct_parts import StructParts
from ...sampling.batching import distinct_rows
from ..runtime import ROWS_KEY

LR_LATENT = "adaptivesr_stablesr_lr"
"""Key in CONDITIONING, and of the UNet's argument, of the scaled LR latent (B, C, h, w)."""
PARTS = "adaptivesr_stablesr"
"""Key of the wrappers, of the additional model and, in a call's transformer options, of the network itself."""
Options = dict[str, Any]
_MEMORY = "adaptivesr_stablesr_features"
_BLOCK_PATCH = "forward_timestep_embed_patch"


class _Probe(TimestepBlock):
    """A layer that takes the time embedding, as residual blocks do."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return x


def _host_offers_blocks() -> bool:
    """Whether the host gives residual blocks to the patches that are meant for layers: asked with a layer of our own."""
    patches = {_BLOCK_PATCH: [(_Probe, lambda *given: True)]}
    return forward_timestep_embed([_Probe()], False, None, transformer_options={"patches": patches})


HOST_OFFERS_BLOCKS = _host_offers_blocks()


@dataclass(frozen=True)
class Placed:
    """A residual block of a UNet: its name, how often the map has been halved there, and the module."""

    name: str
    level: int
    block: ResBlock


def residual_blocks(unet: UNetModel) -> Iterator[Placed]:
    """All residual blocks of a UNet of the host, in the order in which they run."""
    level = 0
    for name, stage in _stages(unet):
        for number, layer in enumerate(stage):
            if isinstance(layer, ResBlock):
                yield Placed(f"{name}.{number}", level, layer)
        level += sum(isinstance(layer, Downsample) for layer in stage)
        level -= sum(isinstance(layer, Upsample) for layer in stage)


def _stages(unet: UNetModel) -> Iterator[tuple[str, Any]]:
    yield from ((f"input_blocks.{i}", stage) for i, stage in enumerate(unet.input_blocks))
    if unet.middle_block is not None:
        yield "middle_block", unet.middle_block
    yield from ((f"output_blocks.{i}", stage) for i, stage in enumerate(unet.output_blocks))


@dataclass(frozen=True)
class Features:
    """Maps (U, F, h_i, w_i) by level for the distinct rows of a call, and which of them each row takes (None: its own)."""

    maps: list[Tensor]
    rows: Tensor | None = None


@dataclass
class FeatureMemory:
    """The features of the last call of one evaluation: conditions that the host cannot batch find them again.

    shared: a region sampler calls, whose rows differ, and all conditions have one LR latent, so that every condition's rows are
    those of the first. Then nothing is compared, for which the host would have to wait for the device.
    """

    shared: bool = False
    kept: dict[torch.device, tuple[Tensor, Tensor, list[Tensor]]] = field(default_factory=dict)

    def maps(self, parts: StructParts, latent: Tensor, timesteps: Tensor) -> list[Tensor]:
        """Maps of distinct rows, encoded unless the last call had the same."""
        known = self.kept.get(latent.device)
        if known is not None and self._same(known[0], latent) and (self.shared or torch.equal(known[1], timesteps)):
            return known[2]
        maps = parts.encoder(latent, timesteps)
        self.kept[latent.device] = latent, timesteps, maps
        return maps

    def _same(self, known: Tensor, latent: Tensor) -> bool:
        return known.shape == latent.shape and (self.shared or torch.equal(known, latent))


def encode_rows(
    parts: StructParts, latent: Tensor, timesteps: Tensor, memory: FeatureMemory, conditions: int = 1
) -> Features:
    """Features for the rows of a call, which holds that many conditions of the same rows, one after the other.

    Rows of equal latent and timestep (cond and uncond, say) are encoded once.
    """
    if memory.shared and len(latent) % conditions == 0:
        count = len(latent) // conditions
        maps = memory.maps(parts, latent[:count], timesteps[:count])
        return Features(maps, None if conditions == 1 else torch.arange(count, device=latent.device).repeat(conditions))
    # A wait for the device: which rows are equal decides what is encoded, and saves more than it costs.
    kept, inverse = distinct_rows(latent, timesteps)
    if len(kept) == len(inverse):
        return Features(memory.maps(parts, latent, timesteps))
    chosen = upload(torch.tensor(kept), latent.device)
    maps = memory.maps(parts, latent[chosen], timesteps[chosen])
    return Features(maps, upload(torch.tensor(inverse), latent.device))


def share_latent(conds: Mapping[str, Sequence[dict[str, Any]] | None]) -> bool:
    """Whether all conditions are of the whole frame and carry one LR latent, the same tensor."""
    entries = [entry for some in conds.values() for entry in some or ()]
    carried = [entry.get("model_conds", {}).get(LR_LATENT) for entry in entries]
    if any(entry.get("area") is not None for entry in entries):
        return False
    return len({None if latent is None else id(latent.cond) for latent in carried}) == 1


class BlockPatch:
    """Modulates the residual blocks that the parts have a layer for; also the host's handler for such blocks."""

    def __init__(self, unet: UNetModel, parts: StructParts, features: Features, strength: float) -> None:
        self._features, self._strength = features, strength
        modulations = parts.modulations()
        self._found = {
            placed.block: (placed, modulations[placed.name])
            for placed in residual_blocks(unet)
            if placed.name in modulations
        }

    def __call__(self, block: ResBlock, x: Tensor, emb: Tensor, *_: object) -> Tensor:
        """What the host's block would return, with its branch modulated."""
        if block not in self._found:
            return block(x, emb)
        return modulated_block(block, x, emb, partial(self.branch, block))

    def branch(self, block: ResBlock, h: Tensor) -> Tensor:
        """The modulated branch h (N, C, h, w) of a block."""
        placed, layer = self._found[block]
        maps = self._features.maps[placed.level]
        if maps.shape[2:] != h.shape[2:]:
            raise ValueError(
                f"StableSR's features for {placed.name} have {maps.shape[2]} x {maps.shape[3]} cells and the map there "
                f"{h.shape[2]} x {h.shape[3]}: expected equal sizes; remove the patch that changes sizes inside the UNet."
            )
        return modulate(layer, h, maps, self._features.rows, self._strength)

    @contextmanager
    def in_call(self, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Transformer options for one call of the UNet, in which the blocks are modulated.

        Older hosts (0.16.3) do not offer residual blocks to patches: there the branch is modulated by hooks of torch, which act
        in this thread only and are gone when the call is over.
        """
        if HOST_OFFERS_BLOCKS:
            patches = dict(options.get("patches", {}))
            patches[_BLOCK_PATCH] = [(ResBlock, self), *patches.get(_BLOCK_PATCH, [])]
            yield {**options, "patches": patches}
            return
        thread = threading.get_ident()

        def hook(block: ResBlock, _module: object, _inputs: object, h: Tensor) -> Tensor | None:
            return self.branch(block, h) if threading.get_ident() == thread else None

        with ExitStack() as stack:
            for block in self._found:
                stack.callback(block.out_layers.register_forward_hook(partial(hook, block)).remove)
            yield options


@dataclass(frozen=True)
class StructPatch:
    """The wrappers; `strength` blends from the plain model (0) to StableSR (1)."""

    strength: float

    def check(
        self, executor: WrapperExecutor, noise: Tensor, latent_image: Tensor, *args: object, **kwargs: object
    ) -> Tensor:
        """Around a whole run: sizes are compared before anything is loaded or cut to areas."""
        for conds in cast("CFGGuider", executor.class_obj).conds.values():
            for entry in conds or ():
                if (latent := entry.get("model_conds", {}).get(LR_LATENT)) is not None:
                    check_canvas(latent.cond, noise)
        return executor(noise, latent_image, *args, **kwargs)

    def remember(
        self, executor: WrapperExecutor, x: Tensor, timestep: Tensor, model_options: Options, seed: int | None = None
    ) -> Tensor:
        """Around one evaluation of all conditions."""
        given = model_options.get("transformer_options", {})
        memory = FeatureMemory(ROWS_KEY in given and share_latent(cast("CFGGuider", executor.class_obj).conds))
        options = {**given, _MEMORY: memory}
        return executor(x, timestep, {**model_options, "transformer_options": options}, seed)

    def select(
        self,
        executor: WrapperExecutor,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Options | None = None,
        transformer_options: Options | None = None,
        **conds: object,
    ) -> Tensor:
        """Around a call of the model: names the parts of the patcher that is running it."""
        parts = cast("BaseModel", executor.class_obj).current_patcher.get_additional_models_with_key(PARTS)[0].model
        options = {**(transformer_options or {}), PARTS: parts}
        return executor(x, t, c_concat, c_crossattn, control, options, **conds)

    def run(
        self,
        executor: WrapperExecutor,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: Options | None = None,
        transformer_options: Options | None = None,
        **conds: Any,
    ) -> Tensor:
        """Around a call of the UNet: x (N, C, h, w) as the UNet takes it, timesteps (N,)."""
        options = transformer_options or {}
        latent = checked_latent(conds.pop(LR_LATENT, None), x)
        parts = options[PARTS]
        conditions = max(1, len(options.get("cond_or_uncond", ())))
        features = encode_rows(parts, latent, timesteps, options.get(_MEMORY) or FeatureMemory(), conditions)
        with BlockPatch(cast("UNetModel", executor.class_obj), parts, features, self.strength).in_call(
            options
        ) as patched:
            return executor(x, timesteps, context, y, control, patched, **conds)

    def wrappers(self) -> dict[str, Any]:
        """By the host's kind of wrapper."""
        return {
            WrappersMP.OUTER_SAMPLE: self.check,
            WrappersMP.PREDICT_NOISE: self.remember,
            WrappersMP.APPLY_MODEL: self.select,
            WrappersMP.DIFFUSION_MODEL: self.run,
        }


def other_block_patches(model: ModelPatcher) -> int:
    """How many patches of other packs for residual blocks a MODEL carries; ours comes first and overrules them."""
    patches = model.model_options.get("transformer_options", {}).get("patches", {}).get(_BLOCK_PATCH, [])
    return sum(issubclass(ResBlock, kind) for kind, _ in patches)


def checked_latent(latent: Tensor | None, x: Tensor) -> Tensor:
    """The LR latent of a call in the dtype of x; ValueError when it is missing or of another size."""
    if latent is None:
        raise ValueError(
            "The MODEL is patched by StableSR Apply, and a conditioning it is sampled with has no LR latent: expected both "
            "prompts from the outputs of StableSR Apply; connect its positive and negative to the sampler."
        )
    if latent.shape[2:] != x.shape[2:]:
        raise ValueError(wrong_size(latent, x))
    return latent.to(x)


def check_canvas(latent: Tensor, noise: Tensor) -> None:
    """Raises ValueError unless the LR latents (B, C, h, w) fit the sampled ones in size and number."""
    if latent.shape[2:] != noise.shape[2:]:
        raise ValueError(wrong_size(latent, noise))
    if len(noise) % len(latent):
        raise ValueError(
            f"StableSR Apply got {len(latent)} LR latents and {len(noise)} latents are sampled: expected one for all, or as many "
            "as are sampled; use the same batch for both."
        )


def wrong_size(latent: Tensor, x: Tensor) -> str:
    """The sentence for an LR latent that is not for the latents x."""
    (height, width), (high, wide) = latent.shape[2:], x.shape[2:]
    return (
        f"The LR latent of StableSR Apply has {height} x {width} cells and the sampled latent {high} x {wide}: expected equal "
        "sizes; enlarge the LR image to the final size before VAE Encode, and sample a latent of that size."
    )
