"""Load One-Step SR and One-Step Distilled SR inside the host: what good and bad input gets."""

import json
import pickle
import traceback
from pathlib import Path

import pytest
import torch
from adaptivesr.sampling.network_cost import COUNTED
from adaptivesr.tools.small_models.tiny import BROKEN, STUDENT, TEACHER
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parents[1] / "golden" / "tad_sr"
DEFAULTS = {
    "scale": 4.0, "width": 0, "height": 0, "steps": 0, "seed": 0, "color_fix": "none", "tile": 256, "overlap": 32,
    "tile_batch": 0, "chain": "stochastic",
}  # fmt: skip


@pytest.fixture(scope="module")
def load(comfy):
    return comfy.module("host.resshift.loading").load_one_step


@pytest.fixture(scope="module")
def folders(comfy):
    """Our model folders in the host, by name."""
    import folder_paths

    names = ("adaptivesr_one_step", "adaptivesr_autoencoder")
    paths = {name: Path(folder_paths.folder_names_and_paths[name][0][0]) for name in names}
    for path in paths.values():
        path.mkdir(parents=True, exist_ok=True)
    return paths


@pytest.fixture
def upscale(comfy):
    def run(sr, image, **inputs):
        with torch.inference_mode():
            return comfy.node("AdaptiveSROneStepDistilledSR").execute(sr, image, **{**DEFAULTS, **inputs}).args

    return run


def golden_weights(name):
    return {key[2:]: value for key, value in load_file(GOLDEN / f"{name}.safetensors").items() if key.startswith("w.")}


@pytest.fixture
def file_in(folders):
    """Puts a file into one of the folders for one test."""
    made = []

    def put(folder, name, content):
        path = folders[folder] / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content, path)
        made.append(path)
        return name

    yield put
    for path in made:
        path.unlink()


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 3), (1, 8, 8, 3), (1, 1, 30, 3), (2, 17, 23, 3), (3, 9, 9, 4), (1, 9, 9, 1)]
)
def test_any_image_comes_out_four_times_as_large_with_its_transparency(load, upscale, shape):
    image, report = upscale(load(STUDENT), torch.rand(shape))
    channels = 4 if shape[3] == 4 else 3
    assert image.shape == (shape[0], 4 * shape[1], 4 * shape[2], channels)
    assert image.min() >= 0 and image.max() <= 1
    assert json.loads(report)["network_calls"] >= 1


def test_transparency_is_enlarged_and_does_not_touch_the_colours(load, upscale):
    image = torch.rand(1, 12, 12, 4)
    image[..., 3] = 0.25
    with_alpha, _ = upscale(load(STUDENT), image)
    without, _ = upscale(load(STUDENT), image[..., :3])
    assert torch.equal(with_alpha[..., :3], without)
    torch.testing.assert_close(with_alpha[..., 3], torch.full((1, 48, 48), 0.25))


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ({"scale": 2.0}, (22, 34)), ({"scale": 6.5}, (72, 110)), ({"width": 50, "height": 20}, (20, 50)),
        ({"width": 34}, (22, 34)), ({"height": 33}, (33, 51)), ({"scale": 0.1}, (1, 2)),
    ],
)  # fmt: skip
def test_the_target_is_met_exactly(load, upscale, inputs, size):
    image, _ = upscale(load(STUDENT), torch.rand(1, 11, 17, 3), **inputs)
    assert tuple(image.shape[1:3]) == size


def test_a_batch_equals_single_images(load, upscale):
    images = torch.rand(3, 10, 14, 3)
    batch, _ = upscale(load(TEACHER), images, seed=3)
    singles = [upscale(load(TEACHER), images[i : i + 1], seed=3)[0] for i in range(3)]
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("steps", "calls"), [(0, 15), (1, 1), (4, 4)])
def test_steps_are_network_calls_of_a_single_tile(load, upscale, steps, calls):
    _, report = upscale(load(TEACHER), torch.rand(1, 8, 8, 3), steps=steps)
    report = json.loads(report)
    assert report["network_calls"] == calls and report["tflop"] is None  # the small network was not counted


@pytest.mark.parametrize(
    ("name", "steps", "counted"),
    [("embedded: one step", 1, "embedded one step"), ("embedded: teacher, 15 steps", 4, "embedded teacher")],
)
def test_arithmetic_is_that_of_the_counted_networks(load, upscale, name, steps, counted):
    _, report = upscale(load(name), torch.rand(2, 33, 20, 3), steps=steps)
    assert json.loads(report)["tflop"] == pytest.approx(2 * steps * COUNTED[counted](33, 20) / 1e12, abs=1e-6)


@pytest.mark.parametrize("mode", ["wavelet", "adain", "lab"])
def test_color_fix_in_the_node_equals_the_node_of_its_own(comfy, load, upscale, mode):
    image = torch.rand(1, 12, 12, 3)
    plain, _ = upscale(load(STUDENT), image)
    fixed, _ = upscale(load(STUDENT), image, color_fix=mode)
    expected = comfy.node("AdaptiveSRWaveletColorFix").execute(plain, image, mode).args[0]
    torch.testing.assert_close(fixed, expected, atol=1e-5, rtol=0)


def test_wavelet_color_fix_leaves_transparency_alone(comfy):
    image, reference = torch.rand(2, 20, 24, 4), torch.rand(1, 5, 6, 3)
    fixed = comfy.node("AdaptiveSRWaveletColorFix").execute(image, reference, "wavelet").args[0]
    assert torch.equal(fixed[..., 3], image[..., 3])


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (torch.full((2, 8, 8, 3), float("nan")), "Image 1, 2 of 2 in 'image' has pixels that are NaN"),
        (torch.full((1, 8, 8, 3), float("inf")), "NaN or infinite"),
        (torch.rand(1, 8, 8, 2), "1, 3 or 4 channels"),
        (torch.rand(8, 8, 3), "1, 3 or 4 channels"),
        (torch.rand(0, 8, 8, 3), "at least one pixel"),
    ],
)
def test_bad_pixels_are_a_sentence(load, upscale, image, sentence):
    with pytest.raises(ValueError, match=sentence):
        upscale(load(STUDENT), image)


def test_a_published_pair_is_put_together_by_itself_and_runs(load, upscale, file_in):
    file_in("adaptivesr_autoencoder", "my_vq.safetensors", golden_weights("vq_autoencoder"))
    name = file_in("adaptivesr_one_step", "my_SinSR_copy.safetensors", golden_weights("swin_unet_a"))
    sr = load(name)
    assert "SinSR" in sr.summary and sr.one_step_only and sr.scale == 4
    image, report = upscale(sr, torch.rand(1, 20, 40, 3))
    assert image.shape == (1, 80, 160, 3) and json.loads(report)["tflop"] is None
    assert json.loads(report)["steps"] == 1


def test_the_preset_widget_overrules_the_file_name(load, file_in):
    file_in("adaptivesr_autoencoder", "my_vq.safetensors", golden_weights("vq_autoencoder"))
    name = file_in("adaptivesr_one_step", "my_SinSR_copy.safetensors", golden_weights("swin_unet_a"))
    sr = load(name, preset="resshift_4")
    assert sr.schedule.num_steps == 4 and not sr.one_step_only


def test_a_missing_autoencoder_is_named(load, file_in):
    name = file_in("adaptivesr_one_step", "resshift_realsrx4_s15_v1.safetensors", golden_weights("swin_unet_a"))
    with pytest.raises(ValueError, match=r"latents of 3 channels.*autoencoder_vq_f4\.pth"):
        load(name)


def test_an_autoencoder_that_does_not_fit_is_named(load, file_in):
    weights = golden_weights("vq_autoencoder")
    file_in("adaptivesr_autoencoder", "my_vq.safetensors", weights)
    name = file_in("adaptivesr_one_step", "four.safetensors", golden_weights("swin_unet_b"))
    with pytest.raises(ValueError, match="latents of 4 channels"):
        load(name, "my_vq.safetensors")


class Payload:
    def __reduce__(self):
        return (eval, ("1 + 1",))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("upscaler.safetensors", {"model.0.weight": torch.zeros(3, 3)}, "No known network.*model.0.weight"),
        ("code.pth", pickle.dumps({"weight": Payload()}), "could not be read as a file of tensors"),
        ("text.ckpt", b"<html>not found</html>", "could not be read as a file of tensors .it is a web page"),
        ("pointer.ckpt", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("cut.pth", pickle.dumps({"weight": 1})[:-3], "damaged, or holds other things than tensors"),
        ("empty.safetensors", b"", "could not be read as a file of tensors"),
        ("vq.safetensors", None, "VQ-f4 .custom. autoencoder.*expected"),
    ],
)
def test_wrong_files_are_a_sentence_with_their_name(load, file_in, name, content, sentence):
    file_in("adaptivesr_one_step", name, golden_weights("vq_autoencoder") if content is None else content)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(name)
    assert name in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))  # what the host's log gets
    assert "weights_only" not in told and "Weights only" not in told


def test_a_truncated_file_and_missing_keys_are_named(load, file_in):
    with pytest.raises(ValueError, match=BROKEN):
        load(BROKEN)
    weights = golden_weights("swin_unet_a")
    del weights["middle_block.0.in_layers.2.weight"]
    file_in("adaptivesr_autoencoder", "my_vq.safetensors", golden_weights("vq_autoencoder"))
    name = file_in("adaptivesr_one_step", "holes.safetensors", weights)
    with pytest.raises(ValueError, match=r"middle_block\.0\.in_layers\.2\.weight"):
        load(name)


def test_a_checkpoint_wrapped_by_a_trainer_loads_alike(load, upscale, file_in, folders):
    weights = load_file(folders["adaptivesr_one_step"] / TEACHER)
    path = folders["adaptivesr_one_step"] / "wrapped.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}, "iters_start": 5}, path)
    try:
        image = torch.rand(1, 8, 8, 3)
        assert torch.equal(upscale(load("wrapped.pth"), image)[0], upscale(load(TEACHER), image)[0])
    finally:
        path.unlink()


def test_one_step_weights_refuse_a_chain_and_a_teacher_too_many_steps(load, upscale):
    with pytest.raises(ValueError, match="steps = 5 for weights that know one step only"):
        upscale(load(STUDENT), torch.rand(1, 8, 8, 3), steps=5)
    with pytest.raises(ValueError, match="steps = 16"):
        upscale(load(TEACHER), torch.rand(1, 8, 8, 3), steps=16)


def test_an_overlap_of_more_than_half_a_tile_is_refused(load, upscale):
    with pytest.raises(ValueError, match="overlap of 32 pixels for tiles of 16"):
        upscale(load(STUDENT), torch.rand(1, 8, 8, 3), tile=16)


def test_a_cancel_ends_the_run_within_one_network_call_and_the_next_run_is_clean(load, upscale):
    import comfy.model_management as mm

    sr, image = load(TEACHER), torch.rand(1, 40, 40, 3)
    expected, _ = upscale(sr, image, tile=16, overlap=4)
    calls = []

    def count(*_):
        calls.append(1)
        if len(calls) == 3:
            mm.interrupt_current_processing(True)

    hook = sr.network.register_forward_pre_hook(count)
    with pytest.raises(mm.InterruptProcessingException):
        upscale(sr, image, tile=16, overlap=4)
    hook.remove()
    assert len(calls) == 3
    assert torch.equal(upscale(sr, image, tile=16, overlap=4)[0], expected)
