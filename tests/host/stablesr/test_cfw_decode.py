"""CFW Decode in the host's KL autoencoder: limits, tiles, batches, what stays behind, what is refused."""

import os
import threading

import pytest
import torch
from adaptivesr.tools.small_models.cfw import small_cfw
from safetensors.torch import save_file

WIDTHS, MULTIPLES, CHANNELS = 32, (1, 2, 4, 4), (64, 128)


@pytest.fixture(scope="module")
def cfw_module(comfy):
    return comfy.module("host.stablesr.cfw")


def shaped(model, seed):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            state[name] = noise * value[0].numel() ** -0.5
        else:
            state[name] = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    return state


def kl_vae(**changes):
    import comfy.sd

    shape = {"ch": WIDTHS, "ch_mult": list(MULTIPLES), "z_channels": 4, **changes}
    config = {
        "double_z": True, "resolution": 64, "in_channels": 3, "out_ch": 3, "num_res_blocks": 1, "attn_resolutions": [],
        "dropout": 0.0, **shape,
    }  # fmt: skip
    params = {"ddconfig": config, "embed_dim": shape["z_channels"]}
    vae = comfy.sd.VAE(sd={"nothing": torch.zeros(1)}, config={"params": params})
    vae.first_stage_model.load_state_dict(shaped(vae.first_stage_model, 1))
    vae.latent_channels = shape["z_channels"]
    return vae


@pytest.fixture(scope="module")
def vae(comfy):
    """A random KL autoencoder of a quarter of the published width."""
    return kl_vae()


def put(name, tensors):
    import folder_paths

    folder = os.path.join(folder_paths.models_dir, "adaptivesr", "cfw")
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, name))
    folder_paths.filename_list_cache.clear()
    return name


def fusion(comfy, half=(64, 64), quarter=(128, 128)):
    models = comfy.module("models.cfw")
    network = models.CFW(models.CFWConfig((models.FuseConfig(*half, 8), models.FuseConfig(*quarter, 8))))
    return shaped(network, 2)


@pytest.fixture(scope="module")
def cfw(comfy, cfw_module):
    """Random fusion layers for `vae`, through the loader."""
    return cfw_module.load_cfw(put("fusion_only.safetensors", fusion(comfy)))[0]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(height, width, batch=1, channels=3, seed=5):
    """IMAGE (B, H, W, C)."""
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def decode(comfy, vae, cfw):
    """The node: latents (B, 4, h, w) and an IMAGE -> IMAGE."""
    node = comfy.node("AdaptiveSRCFWDecode")

    def run(latent, image, w=0.5, tile=0, overlap=16, vae=vae, cfw=cfw):
        with torch.inference_mode():
            return node.execute(vae, cfw, {"samples": latent}, image, w, tile, overlap).result[0]

    return run


def plain(vae, latent):
    with torch.inference_mode():
        return vae.decode(latent)


def hooks(vae):
    return sum(len(module._forward_pre_hooks) for module in vae.first_stage_model.modules())


def test_strength_zero_is_the_hosts_decode(decode, vae):
    latent = randn(2, 4, 5, 7)
    assert torch.equal(decode(latent, picture(40, 56), w=0.0), plain(vae, latent))


def test_the_fusion_stands_before_each_change_of_size(decode, vae, cfw):
    """The same network walked by hand: features behind the last block of a level, fused behind the decoder's last block."""
    latent, image = randn(1, 4, 5, 7), picture(40, 56)
    model = vae.first_stage_model
    with torch.inference_mode():
        x = model.encoder.conv_in(image.movedim(-1, 1) * 2 - 1)
        kept = {}
        for level, down in enumerate(model.encoder.down):
            for block in down.block:
                x = block(x)
            kept[level] = x
            x = down.downsample(x) if level < 3 else x
        h = model.decoder.conv_in(model.post_quant_conv(latent))
        h = model.decoder.mid.block_2(model.decoder.mid.attn_1(model.decoder.mid.block_1(h)))
        for level in (3, 2, 1, 0):
            for block in model.decoder.up[level].block:
                h = block(h)
            if level in (1, 2):
                h = cfw.network(level, kept[level], h, 0.8)
            h = model.decoder.up[level].upsample(h) if level else h
        h = model.decoder.conv_out(torch.nn.functional.silu(model.decoder.norm_out(h)))
    expected = ((h + 1) / 2).clamp(0, 1).movedim(1, -1)
    found = decode(latent, image, w=0.8)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - plain(vae, latent)).abs().max() > 0.05


def test_nothing_stays_behind(decode, vae):
    latent, image = randn(1, 4, 4, 4), picture(32, 32)
    before = plain(vae, latent)
    first = decode(latent, image)
    assert hooks(vae) == 0
    assert torch.equal(plain(vae, latent), before)
    assert torch.equal(decode(latent, image), first)


def test_nothing_stays_behind_after_an_error(decode, vae, monkeypatch):
    def fail(*_):
        raise ArithmeticError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(vae.first_stage_model.decoder.norm_out, "forward", fail)
        with pytest.raises(ArithmeticError):
            decode(randn(1, 4, 4, 4), picture(32, 32))
    assert hooks(vae) == 0


def test_another_threads_decode_is_left_alone(cfw_module, vae, cfw):
    latent, results = randn(1, 4, 4, 4), []
    expected = plain(vae, latent)
    with torch.inference_mode(), cfw_module.fusing(vae.first_stage_model, cfw.network, 1.0) as features:
        vae.first_stage_model.encoder(picture(32, 32).movedim(-1, 1))
        thread = threading.Thread(target=lambda: results.append(plain(vae, latent)))
        thread.start()
        thread.join()
        assert sorted(features) == [1, 2]
        vae.first_stage_model.decode(latent)
        assert not features
    assert torch.equal(results[0], expected)


def test_a_batch_is_single_calls(decode):
    latent, images = randn(2, 4, 4, 6), picture(32, 48, batch=2)
    together = decode(latent, images)
    for i in range(2):
        assert torch.equal(decode(latent[i : i + 1], images[i : i + 1]), together[i : i + 1])
    shared = decode(latent, images[:1])
    assert torch.equal(shared[0], together[0]) and not torch.equal(shared[1], together[1])


def test_a_tile_as_large_as_the_picture_changes_nothing(decode):
    latent, image = randn(1, 4, 9, 12), picture(72, 96)
    assert torch.equal(decode(latent, image, tile=128), decode(latent, image))


def test_tiles_see_their_own_part_of_the_lr_image(decode):
    latent, image = randn(1, 4, 8, 24), picture(64, 192)
    whole = decode(latent, image, tile=64, overlap=16)
    assert whole.shape == (1, 64, 192, 3)
    changed = image.clone()
    changed[:, :, 150:] = 1 - changed[:, :, 150:]
    other = decode(latent, changed, tile=64, overlap=16)
    # the last two of four tiles begin at 88 and 128
    assert torch.equal(other[:, :, :88], whole[:, :, :88]) and not torch.equal(other[:, :, 130:], whole[:, :, 130:])


def test_tiles_at_strength_zero_and_overlap_zero_are_decoded_alone(decode, vae):
    latent = randn(1, 4, 8, 16)
    halves = [plain(vae, latent[..., :8]), plain(vae, latent[..., 8:])]
    torch.testing.assert_close(
        decode(latent, picture(64, 128), w=0.0, tile=64, overlap=0), torch.cat(halves, dim=2), atol=1e-6, rtol=0
    )


def test_tiles_are_blended_before_the_one_clamp(comfy, decode, vae):
    tiles = comfy.module("imaging.tiles")
    latent = 3 * randn(1, 4, 8, 12)
    regions = tiles.grid(8, 12, 8, 4)
    with torch.inference_mode():
        parts = [vae.first_stage_model.decode(latent[(..., *region.slices)]) for region in regions]
        scaled = [region.scaled(8) for region in regions]
        merged = tiles.merge(torch.cat(parts), scaled, (1, 3, 64, 96), tiles.gaussian_window(64, 64))
    expected = ((merged + 1) / 2).clamp(0, 1).movedim(1, -1)
    assert len(regions) == 2 and max(part.abs().max() for part in parts) > 1.2
    torch.testing.assert_close(decode(latent, picture(64, 96), w=0.0, tile=64, overlap=32), expected, atol=1e-6, rtol=0)


def test_out_of_memory_falls_back_to_tiles_and_says_so(comfy, cfw_module, vae, cfw, monkeypatch, caplog):
    import comfy.model_management as mm

    latent, image = randn(1, 4, 3, 40), picture(24, 320).movedim(-1, 1)
    real = vae.first_stage_model.decode

    def limited(z):
        if z.shape[-1] > 32:
            raise mm.OOM_EXCEPTION("too large")
        return real(z)

    with torch.inference_mode():
        expected, _ = cfw_module.decode_fused(vae, cfw, latent, image, cfw_module.Decoding(0.5, 256, 64))
        with monkeypatch.context() as patch:
            patch.setattr(vae.first_stage_model, "decode", limited)
            found, remark = cfw_module.decode_fused(vae, cfw, latent, image, cfw_module.Decoding(0.5, 0, 64))
    assert remark == "Memory ran out: decoded in tiles of 256 pixels." and "out of memory" in caplog.text
    assert torch.equal(found, expected) and hooks(vae) == 0


def test_what_memory_cannot_hold_is_decoded_in_tiles_at_once(cfw_module, vae, cfw, monkeypatch):
    import comfy.model_management as mm

    latent, image = randn(1, 4, 3, 40), picture(24, 320).movedim(-1, 1)
    with torch.inference_mode():
        expected, _ = cfw_module.decode_fused(vae, cfw, latent, image, cfw_module.Decoding(0.5, 256, 64))
        whole = cfw_module.PEAK_ELEMENTS * 24 * 320 * mm.dtype_size(vae.vae_dtype)
        for room, remark in ((whole, ""), (whole - 1, "The memory is too small: decoded in tiles of 256 pixels.")):
            monkeypatch.setattr(mm, "get_free_memory", lambda device, room=room: room)
            found, said = cfw_module.decode_fused(vae, cfw, latent, image, cfw_module.Decoding(0.5, 0, 64))
            assert said == remark
    assert torch.equal(found, expected)


def test_the_last_out_of_memory_error_is_the_users(cfw_module, vae, cfw, monkeypatch):
    import comfy.model_management as mm

    def never(z):
        raise mm.OOM_EXCEPTION("too large")

    monkeypatch.setattr(vae.first_stage_model, "decode", never)
    with pytest.raises(mm.OOM_EXCEPTION), torch.inference_mode():
        cfw_module.decode_fused(vae, cfw, randn(1, 4, 2, 80), picture(16, 640).movedim(-1, 1), cfw_module.Decoding())


def test_a_picture_of_odd_size_is_cropped_as_vae_encode_crops_it(decode, vae):
    image = picture(77, 101)
    with torch.inference_mode():
        latent = vae.encode(image)
    found = decode(latent, image)
    assert found.shape == (1, 72, 96, 3)
    assert torch.equal(found, decode(latent, image[:, 2:74, 2:98]))


def test_a_small_lr_image_is_enlarged_bicubically(decode):
    latent, small = randn(1, 4, 4, 6), picture(9, 13)
    large = torch.nn.functional.interpolate(small.movedim(-1, 1), (32, 48), mode="bicubic").clamp(0, 1).movedim(1, -1)
    assert torch.equal(decode(latent, small), decode(latent, large))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (1, 40), (200, 20)])
def test_any_lr_image_will_do(decode, height, width):
    found = decode(randn(1, 4, 4, 6), picture(height, width))
    assert found.shape == (1, 32, 48, 3) and torch.isfinite(found).all()


def test_transparency_is_put_back_and_grey_is_colour(decode):
    latent, image = randn(2, 4, 4, 6), picture(32, 48, channels=4)
    found = decode(latent, image)
    assert torch.equal(found[..., :3], decode(latent, image[..., :3]))
    assert torch.equal(found[..., 3], image[..., 3].expand(2, -1, -1))
    assert torch.equal(decode(latent, image[..., :1]), decode(latent, image[..., :1].expand(-1, -1, -1, 3)))


@pytest.mark.parametrize(
    ("latent", "image", "options", "words"),
    [
        ((1, 16, 4, 4), (32, 32), {}, r"shape \(1, 16, 4, 4\): expected"),
        ((1, 4, 1, 4, 4), (32, 32), {}, r"expected \(batch, 4"),
        ((3, 4, 4, 4), (32, 32, 2), {}, "3 latents and 2 LR images"),
        ((1, 4, 4, 4), (32, 32), {"tile": 32}, "tile of 32 pixels"),
        ((1, 4, 4, 4), (32, 32), {"tile": 64, "overlap": 64}, "overlap of 64"),
    ],
)
def test_what_does_not_fit_is_told(decode, latent, image, options, words):
    with pytest.raises(ValueError, match=words):
        decode(randn(*latent), picture(*image), **options)


def test_broken_pixels_are_told(decode):
    image = picture(32, 32)
    image[0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="'lr_image' has pixels that are NaN"):
        decode(randn(1, 4, 4, 4), image)


def test_other_autoencoders_are_told(comfy, decode):
    import comfy.sd
    import comfy.taesd.taesd

    tiny = comfy.sd.VAE(
        sd={
            **comfy.taesd.taesd.TAESD(latent_channels=4).state_dict(),
            "taesd_decoder.1.weight": torch.zeros(64, 4, 3, 3),
        }
    )
    x4 = kl_vae(ch_mult=[1, 2, 4])
    x4.downscale_ratio = x4.upscale_ratio = 4
    cases = {
        r"of another kind \(TAESD\)": tiny,
        "without weights": comfy.sd.VAE(sd={}),
        "with 16 latent channels": kl_vae(z_channels=16),
        "of 4 x 4 pixels": x4,
        "level 1 has 128 and 128 channels where this CFW file takes 64 and 64": kl_vae(ch=64),
    }
    for words, other in cases.items():
        with pytest.raises(ValueError, match=f"CFW Decode got a VAE .*{words}.*expected the KL autoencoder"):
            decode(randn(1, 4, 4, 4), picture(32, 32), vae=other)


def test_the_published_layout_gives_cfw_and_its_vae(comfy, cfw_module, decode):
    """And its fusion brings the LR image back: the small file is made so."""
    tensors = small_cfw() | {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(4)}
    loaded, vae, info = comfy.node("AdaptiveSRLoadCFW").execute(put("small_cfw.safetensors", tensors)).result
    assert info == "StableSR CFW, fusion at 64 and 128 channels; with its VAE."
    image = torch.nn.functional.interpolate(picture(8, 12).movedim(-1, 1), (64, 96), mode="bicubic").movedim(1, -1)
    with torch.inference_mode():
        latent = vae.encode(image.clamp(0, 1))
    errors = []
    for w in (0.0, 0.5, 1.0):
        found = decode(latent, image.clamp(0, 1), w=w, vae=vae, cfw=loaded)
        errors.append(1 - float(torch.corrcoef(torch.stack([found.flatten(), image.flatten()]))[0, 1]))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1


def test_fusion_layers_alone_give_the_hosts_empty_vae(comfy, cfw):
    put("fusion_only.safetensors", fusion(comfy))
    _, vae, info = comfy.node("AdaptiveSRLoadCFW").execute("fusion_only.safetensors").result
    assert "without a VAE" in info
    with pytest.raises(RuntimeError, match="VAE is invalid"):
        vae.decode(randn(1, 4, 4, 4))


def test_other_files_are_told(comfy, cfw_module):
    error = comfy.module("models.state_dict").UnsupportedModelError
    whole = small_cfw()
    alone = {key: value for key, value in whole.items() if "fusion_layer" not in key}
    with pytest.raises(error, match=r"'vae_only.safetensors': No known network.*controllable feature wrapping"):
        cfw_module.load_cfw(put("vae_only.safetensors", alone))
    del whole["decoder.fusion_layer_2.encode_enc_3.norm1.weight"]
    with pytest.raises(error, match=r"missing decoder\.fusion_layer_2\.encode_enc_3\.norm1"):
        cfw_module.load_cfw(put("damaged.safetensors", whole))
    other = {"heads.0.main.0.0.weight_orig": torch.ones(1), "emb_layers.0.1.weight": torch.ones(1)}
    with pytest.raises(error, match=r"TAD-SR time-aware discriminator.*expected a StableSR CFW"):
        cfw_module.load_cfw(put("discriminator.safetensors", other))
    with pytest.raises(FileNotFoundError, match="models/adaptivesr/cfw"):
        cfw_module.load_cfw("nowhere.safetensors")


def test_the_host_can_make_an_unshared_copy(cfw):
    copy = cfw.patcher.clone(force_deepcopy=True) if hasattr(cfw.patcher, "cached_patcher_init") else None
    assert copy is not None and copy.model is not cfw.patcher.model
    assert all(torch.equal(a, b) for a, b in zip(copy.model.state_dict().values(), cfw.network.state_dict().values()))
