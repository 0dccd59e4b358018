"""StableSR on the base that ships: its parts, what they make of a picture, and what does not belong together."""

import importlib

import pytest
import torch

EMBEDDED = "embedded: small base"


@pytest.fixture(scope="module")
def base(comfy):
    """MODEL, conditioning and VAE."""
    return comfy.node("AdaptiveSRLoadEmbeddedBase").execute(EMBEDDED).args


@pytest.fixture(scope="module")
def parts(comfy):
    return comfy.node("AdaptiveSRLoadStableSR").execute(EMBEDDED).args[0]


def test_the_loader_names_the_base_that_they_are_for(comfy, parts):
    info = comfy.node("AdaptiveSRLoadStableSR").execute(EMBEDDED).args[1]
    assert info.endswith("Use with Load Embedded Base.")
    assert parts.parts.config.encoder.in_channels == 48
    refused = comfy.module("models.state_dict").UnsupportedModelError
    with pytest.raises(refused, match=r"parts alone.*MODEL and VAE from Load Embedded Base"):
        comfy.node("AdaptiveSRLoadStableSR").execute(EMBEDDED, load_base=True)


def test_what_ships_restores_its_picture_and_sharpens_it_with_more_steps(comfy):
    from adaptivesr.tools.bench import stablesr_training as bench
    from adaptivesr.tools.bench.parts import middles

    runs = importlib.import_module("adaptivesr.tools.bench.parts.stablesr_training_runs")
    options = bench.parser().parse_args(["--photos", "2", "--side", "96", "--degradation", "mild"])
    pairs = middles.crops(options)
    found = runs.restored(options.file, [low for low, _ in pairs], (1, 15), 1)
    measured = {
        steps: [middles.measured(seeds[0], truth) for seeds, (_, truth) in zip(results, pairs)]
        for steps, results in found.items()
    }
    enlarged = middles.bicubic(options)["bicubic"]
    for index in range(len(pairs)):
        one, many = measured[1][index], measured[15][index]
        assert one["psnr"] > enlarged["psnr"][index] - 0.5 and many["psnr"] > one["psnr"] - 2
        assert many["spectrum"] < one["spectrum"] - 3 and many["ger"] > 1.5 * one["ger"]


def test_pictures_of_any_size_and_regions_go_through(comfy, base, parts):
    image = torch.rand(1, 21, 37, 3, generator=torch.Generator().manual_seed(0))
    large, report = comfy.node("AdaptiveSRStableSRUpscale").execute(
        base[0], base[1], base[1], parts, base[2], image, "turbo, 4 steps", 4.0, 0, 0.5, "wavelet", steps=2, tile_size=64
    ).args  # fmt: skip
    assert large.shape == (1, 84, 148, 3) and bool(large.isfinite().all())
    assert '"steps": 2' in report


def test_parts_of_another_base_and_another_vae_are_sentences(comfy, base, parts, stablesr, model):
    check = comfy.module("host.stablesr.loading").check_base
    with pytest.raises(ValueError, match=r"SFT layers.*connect Stable Diffusion 2"):
        check(base[0], stablesr.parts)
    with pytest.raises(ValueError, match=r"SFT layers.*connect Load Embedded Base"):
        check(model, parts.parts)
    with pytest.raises(ValueError, match="VAE has 48 latent channels: expected the MODEL's 4"):
        comfy.module("host.training.stablesr_base").check_guided(model, base[2])


@pytest.mark.slow
def test_training_goes_on_from_what_ships(comfy, base, parts, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    config = comfy.module("training.stablesr.config")
    settings = config.StableSROptions(
        2, "embedded", crop=64, degradation="mild", precision="float32", size=config.TINY, checkpointing=False
    )
    pictures = torch.rand(2, 80, 96, 3, generator=torch.Generator().manual_seed(0))
    trained = comfy.module("host.training.stablesr").train_stablesr(
        base[0], base[2], None, ("", pictures), parts, config.StableSRConfig(batch=1, weighted_as_v=True), settings
    )
    assert trained.report["predicts"] == "eps" and trained.report["started_from"] == "the given file"
    before, after = (part.parts.state_dict() for part in (parts, trained.parts))
    assert before.keys() == after.keys() and any(not torch.equal(before[k].float(), after[k].float()) for k in before)
