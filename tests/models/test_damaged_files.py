"""What files hold is dense, real, finite and in memory once it is read, or one sentence says what is not."""

import json
import math

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.gain_models import METADATA_KEY, GainModelsInfo, MetricInfo
from adaptivesr.models.gain_regressor import latent_statistics
from adaptivesr.models.latent_control import split_control_file
from adaptivesr.models.state_dict import UnsupportedModelError, canonicalize, check_fit, sound
from adaptivesr.tools.small_models.tiny import tiny_noise_predictor


def itself(name):
    found = {"x": torch.zeros(1)}
    found[name] = found
    return found


@pytest.mark.parametrize("contents", [[torch.zeros(1)], torch.zeros(3), 5, None, "state_dict", {"a": [1]}, {}])
@pytest.mark.parametrize("read", [lambda contents: canonicalize(sound(contents)), split_control_file])
def test_what_is_no_mapping_of_tensors_is_refused(read, contents):
    with pytest.raises(UnsupportedModelError, match="Expected a state dict of tensors"):
        read(contents)


@pytest.mark.parametrize("name", ["model", "state_dict", "params"])
@pytest.mark.parametrize("read", [canonicalize, split_control_file])
def test_a_file_that_holds_itself_is_refused(read, name):
    with pytest.raises(UnsupportedModelError, match="containers more than"):
        read(itself(name))


def test_long_names_are_refused_and_wrappers_of_any_depth_come_off():
    assert list(canonicalize({"module." * 20 + "a": torch.zeros(1)})) == ["a"]
    with pytest.raises(UnsupportedModelError, match="characters") as error:
        canonicalize({"module." * 3000 + "a": torch.zeros(1)})
    assert len(str(error.value)) < 400


UNSOUND = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "compressed": lambda: torch.eye(3).to_sparse_csr(),
    "without values": lambda: torch.zeros(3, device="meta"),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    "larger than its file": lambda: torch.zeros(1).expand(2**20, 2**20),
    "NaN": lambda: torch.full((3,), math.nan),
    "damaged": lambda: torch.tensor([0.3, -1e24]),
    "infinite in half": lambda: torch.tensor([1.0, math.inf], dtype=torch.float16),
    "infinite in float8": lambda: torch.tensor([1.0, math.inf]).to(torch.float8_e5m2),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_a_tensor_that_no_network_can_take_is_named(kind):
    with pytest.raises(UnsupportedModelError, match=r"The tensor layer\.weight"):
        sound({"layer.weight": UNSOUND[kind](), "other": torch.zeros(1)})


def test_tensors_one_mapping_below_are_looked_at_and_an_optimisers_are_not():
    with pytest.raises(UnsupportedModelError, match=r"checkpoint_adapter\.a holds NaN"):
        sound({"checkpoint_adapter": {"a": torch.tensor(math.nan)}})
    sound({"a": torch.zeros(1), "optimizer": {"state": {0: {"exp_avg": torch.tensor(math.nan)}}}})


def test_weights_cast_to_float8_load_with_the_values_that_they_have():
    values = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn)
    read = sound({"a": values})["a"]
    assert read.dtype is torch.float16 and torch.equal(read.float(), values.float())


def test_great_values_whose_sum_overflows_are_finite():
    great = torch.full((2**12,), 6e4, dtype=torch.float16)  # their sum is above what float16 holds
    assert torch.equal(sound({"x": great})["x"], great)


RANKS = {"scalar": lambda v: v.sum(), "flat": torch.flatten, "empty": lambda v: v[:0], "more axes": lambda v: v[None]}


@pytest.mark.parametrize("change", RANKS)
@pytest.mark.parametrize(
    "key",
    [
        "encoder.time_embedding.linear_1.weight",
        "encoder.conv_out.weight",
        "encoder.down_blocks.0.resnets.0.conv1.weight",
    ],
)
def test_a_tensor_of_another_rank_is_a_sentence_whatever_reads_it(key, change):
    whole = tiny_noise_predictor()
    broken = {**whole, key: RANKS[change](whole[key])}
    with pytest.raises(UnsupportedModelError) as error:
        check_fit(registry.sketch(registry.identify(broken)), broken)
    assert len(str(error.value)) > 40


INFO = GainModelsInfo(
    "base", "a base", (MetricInfo("psnr", 0, 1, False, True, 1.0), MetricInfo("nlpd", 0, 1, True, True, 1.0))
)
ODD = {
    "t_half": [10**400, "5", None, [1], True],
    "tau": [10**400, "x", True, -1, 0],
    "base": [7, None, ["x"], "", "x" * 10**6],
    "base_label": [{"a": 1}, 3, "y" * 10**6],
    "metrics": [None, [], {"a": 1}, [[1]], "x", 5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_metadata_of_other_types_is_refused_in_a_short_sentence(name, value):
    content = json.loads(INFO.to_metadata()[METADATA_KEY])
    assert GainModelsInfo.from_metadata({METADATA_KEY: json.dumps(content)}) == INFO
    with pytest.raises(UnsupportedModelError, match="metadata entry") as error:
        GainModelsInfo.from_metadata({METADATA_KEY: json.dumps({**content, name: value})})
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("field", ["name", "low", "high", "weight", "scale"])
@pytest.mark.parametrize("value", [None, "0", [1], {"a": 1}, True, float("nan"), 10**400])
def test_a_metric_of_other_types_is_refused(field, value):
    content = json.loads(INFO.to_metadata()[METADATA_KEY])
    content["metrics"][0][field] = value if field != "name" or value != "0" else ""
    with pytest.raises(UnsupportedModelError, match="metadata entry"):
        GainModelsInfo.from_metadata({METADATA_KEY: json.dumps(content)})


@pytest.mark.parametrize("text", ["[" * 200000, "[]", "5", "null", "{}", "\ud800"])
def test_metadata_that_is_no_object_is_refused(text):
    with pytest.raises(UnsupportedModelError, match="metadata entry"):
        GainModelsInfo.from_metadata({METADATA_KEY: text})


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 1), (1, 5)])
def test_statistics_of_maps_one_cell_wide_are_finite(height, width):
    maps = torch.randn(3, 2, 4, height, width, generator=torch.Generator().manual_seed(1))
    assert bool(torch.isfinite(latent_statistics(*maps)).all())


def test_a_column_has_the_statistics_of_a_row():
    rows = torch.randn(3, 2, 4, 1, 7, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(latent_statistics(*rows), latent_statistics(*rows.mT))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_large_weights_and_empty_tensors_of_every_type_are_sound(dtype):
    found = sound(
        {"a": torch.tensor([6e4, -6e4], dtype=dtype), "b": torch.zeros(0, dtype=dtype), "n": torch.tensor(10**12)}
    )
    assert found["a"].abs().min() > 5e4 and found["b"].numel() == 0 and int(found["n"]) == 10**12
