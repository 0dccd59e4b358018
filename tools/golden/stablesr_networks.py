"""Golden checks of StableSR's own networks: time embedding, SFT layer, modulated block, attention, encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...models.layers import Factory, scaled_dot_product, timestep_embedding
from ...models.spade import SpadeModulation, SpadeShape, modulated_block
from ...models.state_dict import load_weights
from ...models.struct_encoder import EncoderAttention, EncoderBlock, StructEncoder, StructEncoderConfig, TimedBlock
from ...models.struct_parts import ENCODER
from .hash_weights import fill_by_hash, seed_of
from .stablesr_tiles import metadata
from .vectors import NETWORK, Checks, Golden

MAKE = Factory(nn)
PUBLISHED_ENCODER: Mapping[str, Any] = {
    "model_channels": 256,
    "out_channels": 256,
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2, 1],
    "channel_mult": [1, 1, 2, 2],
    "num_heads": 4,
}


def encoder_config(sizes: Mapping[str, Any]) -> StructEncoderConfig:
    """The configuration that a file's header describes in the words of the reference."""
    width, blocks = sizes["model_channels"], list[EncoderBlock]()
    for level, factor in enumerate(sizes["channel_mult"]):
        if level:
            blocks.append(EncoderBlock(blocks[-1].channels, halves=True))
        attention = 2**level in sizes["attention_resolutions"]
        blocks += [EncoderBlock(width * factor, attention)] * sizes["num_res_blocks"]
    return StructEncoderConfig(4, width, 4 * width, tuple(blocks), sizes["out_channels"], sizes["num_heads"])


def hashed_encoder(sizes: Mapping[str, Any], seed: int, prefix: str = ENCODER) -> StructEncoder:
    """An encoder with weights made from their names."""
    network = StructEncoder(encoder_config(sizes)).eval()
    fill_by_hash(network, seed, prefix)
    return network


def check_timestep_embedding(golden: Golden) -> None:
    for dim in golden.below("out.dim"):
        golden.expect(f"out.dim{dim}", timestep_embedding(golden["in.t"], int(dim)), NETWORK)


@torch.no_grad()
def check_spade(golden: Golden) -> None:
    shared = golden["w.mlp_shared.0.weight"]
    layer = SpadeModulation(SpadeShape(golden["in.x"].shape[1], shared.shape[0], shared.shape[1]), MAKE)
    load_weights(layer, golden.below("w."))
    golden.expect("out.y", layer(golden["in.x"], golden["in.struct"]), NETWORK)


@torch.no_grad()
def check_modulated_block(golden: Golden) -> None:
    sizes, weights = golden.config, golden.below("w.")
    block = TimedBlock(sizes["ch"], sizes["out"], sizes["emb"], MAKE)
    hidden = weights["spade.mlp_shared.0.bias"].shape[0]
    layer = SpadeModulation(SpadeShape(sizes["out"], hidden, sizes["semb"]), MAKE)
    load_weights(layer, golden.below("w.spade."))
    load_weights(block, {key: value for key, value in weights.items() if not key.startswith("spade.")})
    x, emb = golden["in.x"], golden["in.emb"]
    golden.expect("mid.before_spade", block(x, emb) - block.skip_connection(x), NETWORK)
    golden.expect("out.y", modulated_block(block, x, emb, lambda h: layer(h, golden["in.struct"])), NETWORK)


@torch.no_grad()
def check_attention(golden: Golden) -> None:
    block = EncoderAttention(golden.config["ch"], golden.config["heads"], scaled_dot_product, MAKE)
    load_weights(block, golden.below("w."))
    golden.expect("out.y", block(golden["in.x"]), NETWORK)


@torch.no_grad()
def check_small_encoder(golden: Golden) -> None:
    stored = golden.below("w.")
    if stored:
        network = StructEncoder(encoder_config(golden.config)).eval()
        load_weights(network, stored)
    else:
        network = hashed_encoder(golden.config, seed_of(metadata(golden)["weights"]), prefix="")
    expect_maps(golden, "out.", network)


@torch.no_grad()
def check_published_encoder(golden: Golden) -> None:
    expect_maps(golden, "out.", hashed_encoder(PUBLISHED_ENCODER, seed_of(metadata(golden)["weights"])))


def expect_maps(golden: Golden, prefix: str, encoder: StructEncoder, latent: str = "in.latent") -> None:
    """Compares the encoder's maps, which the files name by their width."""
    maps = encoder(golden[latent], golden["in.t"])
    golden.expect_all(prefix, ((str(level.shape[-1]), level) for level in maps), NETWORK)


CHECKS: Checks = {
    "05_timestep_embedding": check_timestep_embedding,
    "06_spade": check_spade,
    "07_resblock_dual": check_modulated_block,
    "08_attention_block": check_attention,
    "09_struct_encoder_small": check_small_encoder,
    "30_full_struct_encoder": check_published_encoder,
}
