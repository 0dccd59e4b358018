"""Load Noise Predictor: every form of a good file, and a sentence for every bad one."""

import pickle

import pytest
import torch
from adaptivesr.tools.small_models.tiny import STUDENT, TINY_PREDICTOR
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def load(comfy):
    return comfy.module("host.invsr.loading").load_noise_predictor


@pytest.fixture(scope="module")
def weights(folder):
    return load_file(folder / TINY_PREDICTOR)


@pytest.fixture
def put(folder):
    """Writes a file into the folder for one test."""
    made = []

    def write(name, content):
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path)
        made.append(path)
        return name

    yield write
    for path in made:
        path.unlink()


def moments(model):
    image = torch.linspace(0, 1, 3 * 8 * 12).view(1, 3, 8, 12)
    with torch.inference_mode():
        return model.patcher.model(image, torch.tensor([199.0]))


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("bare.pth", lambda sd: sd),
        ("wrapped.pth", lambda sd: {"state_dict": sd}),
        ("distributed.pth", lambda sd: {f"module._orig_mod.{key}": value for key, value in sd.items()}),
        ("training.pth", lambda sd: {"state_dict": sd, "state_dict_dis": {"conv_in.weight": torch.ones(3)}, "iters_start": 7}),
        ("more.safetensors", lambda sd: {**sd, "scheduler.betas": torch.ones(3)}),
    ],
)  # fmt: skip
def test_every_container_gives_the_same_network(load, put, weights, name, wrap):
    expected = moments(load(TINY_PREDICTOR))
    loaded = load(put(name, wrap(weights)))
    assert torch.equal(moments(loaded), expected)
    assert loaded.summary.startswith("InvSR noise predictor, x4 (custom")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_work(load, put, weights, dtype):
    loaded = load(put("half.safetensors", {key: value.to(dtype) for key, value in weights.items()}))
    found, expected = moments(loaded), moments(load(TINY_PREDICTOR))
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max())


def test_the_host_may_ask_for_an_unshared_copy(load):
    loaded = load(TINY_PREDICTOR)
    copy = loaded.patcher.clone(force_deepcopy=True)
    assert copy.model is not loaded.patcher.model
    assert all(torch.equal(a, b) for a, b in zip(copy.model.parameters(), loaded.patcher.model.parameters()))


def test_wrong_files_are_a_sentence(load, put, weights, comfy):
    lost = {key: value for key, value in weights.items() if "to_k" not in key}
    with pytest.raises(ValueError, match=r"to_k"):
        load(put("lost.safetensors", lost))
    unknown = {"layer.weight": torch.ones(2), "layer.bias": torch.ones(2)}
    with pytest.raises(ValueError, match=r"'unknown.safetensors'.*an InvSR noise predictor"):
        load(put("unknown.safetensors", unknown))
    with pytest.raises(ValueError, match=r"'dis.pth'"):
        load(put("dis.pth", {"state_dict_dis": weights | {}, "iters_start": 3}))
    one_step = comfy.module("host.files").find_file("adaptivesr_one_step", STUDENT)
    with pytest.raises(ValueError, match=r"embedded pixel denoiser.*expected an InvSR noise predictor"):
        load(put("student.safetensors", load_file(one_step)))
    with pytest.raises(FileNotFoundError, match="press R"):
        load("nowhere.pth")


def test_damaged_files_and_pickles_with_code_are_a_sentence(load, put, folder):
    whole = (folder / TINY_PREDICTOR).read_bytes()
    with pytest.raises(ValueError, match="could not be read as a file of tensors"):
        load(put("half.safetensors", whole[: len(whole) // 2]))

    class Code:
        def __reduce__(self):
            return print, ("run",)

    with pytest.raises(ValueError, match="could not be read as a file of tensors"):
        load(put("code.pth", pickle.dumps({"encoder.conv_in.weight": Code()})))


def test_layers_cast_their_weights_to_the_input_so_that_a_patch_can_be_repeated_in_float32(load, put, weights, comfy):
    loaded = load(put("half.safetensors", {key: value.half() for key, value in weights.items()}))
    network = loaded.patcher.model
    with torch.inference_mode():
        output = network(torch.rand(1, 3, 8, 8), torch.tensor([99.0]))
    assert output.dtype == torch.float32
    predict = comfy.module("host.invsr.loading").HostPredictor(loaded)
    with torch.inference_mode():
        mean, std = predict(torch.rand(2, 3, 8, 12), 199, full_precision=True)
    assert mean.shape == std.shape == (2, 4, 4, 6) and float(std.min()) > 0
