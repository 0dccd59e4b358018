import json
import shutil
from pathlib import Path

import pytest
import torch
from adaptivesr.imaging.degradation import parts as degradation
from adaptivesr.sampling.schedules import residual_shift_schedule, respace
from adaptivesr.tools import golden
from adaptivesr.tools.golden.analytic import schedule_of
from adaptivesr.tools.golden.stablesr_sampling import reference_ddim
from adaptivesr.tools.golden.vectors import Golden, relative_error
from safetensors.torch import save_file

FILES = Path(__file__).parents[1] / "golden"


def rewrite(path, tensors, config):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"config": json.dumps(config)})


@pytest.fixture
def copies(tmp_path):
    folder = tmp_path / "tad_sr"
    folder.mkdir()
    for name in ("schedules", "tiling", "losses"):
        shutil.copy(FILES / "tad_sr" / f"{name}.safetensors", folder)
    return folder


METHODS = sorted(folder.name for folder in FILES.iterdir() if folder.name in golden.METHODS)
# those below hosted/ need the host, and are run among its tests


def test_the_methods_are_known():
    assert set(METHODS) >= {"tad_sr", "stablesr", "adadiffsr"}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_all_copied_files_pass(capsys, method):
    assert golden.run(FILES / method) == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(lines) - 1
    assert lines[-1] == f"{count} passed, 0 failed"
    plain = [line.removesuffix("  (reference only)") for line in lines[:-1]]
    assert count > 10 and all(line.split()[-1] == "ok" and len(line.split()) == 4 for line in plain)
    assert {line.split("/")[0] for line in lines[:-1]} == {method}


def test_lines_of_checks_that_follow_the_reference_alone_say_so(tmp_path, capsys):
    folder = tmp_path / "stablesr"
    folder.mkdir()
    for name in ("20_preprocess", "14_ddpm_steps"):
        shutil.copy(FILES / "stablesr" / f"{name}.safetensors", folder)
    assert golden.run(folder) == 0
    lines = capsys.readouterr().out.splitlines()[:-1]
    marked = {line.split("/")[1]: line.endswith("(reference only)") for line in lines}
    assert marked == {"20_preprocess": True, "14_ddpm_steps": False}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("schedules", "journal_s4.ddim_k_f64"),
        ("schedules", "realsr_s15_respaced5.timestep_map"),
        ("tiling", "0.out.image"),
        ("tiling", "4.starts"),
        ("losses", "hsd_paper.grad"),
    ],
)
def test_one_corrupted_tensor_fails(copies, capsys, name, key):
    path = copies / f"{name}.safetensors"
    source = Golden.load(path)
    changed = source.tensors[key].clone()
    changed.view(-1)[1] += 1 if not changed.is_floating_point() else 1e-3
    rewrite(path, source.tensors | {key: changed}, source.config)
    assert golden.run(copies) == 1
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("FAIL")] == [f"tad_sr/{name}/{key}"]
    assert out.splitlines()[-1].endswith(", 1 failed")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_fails(copies, value):
    path = copies / "losses.safetensors"
    source = Golden.load(path)
    rewrite(path, source.tensors | {"out.loss_D": torch.full((3,), value)}, source.config)
    assert golden.run(copies) == 1


def test_a_file_without_a_check_fails(copies, capsys):
    save_file({"out.x": torch.zeros(2)}, copies / "unheard_of.safetensors")
    assert golden.run(copies) == 1
    assert "tad_sr/unheard_of  no check  FAIL" in capsys.readouterr().out


def test_an_expected_tensor_that_nobody_checks_fails(copies, capsys):
    path = copies / "tiling.safetensors"
    source = Golden.load(path)
    rewrite(path, source.tensors | {"out.extra": torch.zeros(2)}, source.config)
    assert golden.run(copies) == 1
    assert "tad_sr/tiling/out.extra  no check  FAIL" in capsys.readouterr().out


def test_damaged_files_fail_and_the_others_still_run(copies, capsys):
    (copies / "schedules.safetensors").write_bytes(b"not a safetensors file")
    source = Golden.load(copies / "losses.safetensors")
    del source.tensors["in.z_y"]
    rewrite(copies / "losses.safetensors", source.tensors, source.config)
    assert golden.run(copies) == 1
    out = capsys.readouterr().out
    assert "tad_sr/schedules  unreadable" in out and "KeyError" in out
    assert "tad_sr/tiling/pad.out" in out


def test_an_empty_folder_is_a_failure(tmp_path):
    assert golden.run(tmp_path) == 1


def test_methods_of_unknown_folders_are_guessed_from_their_files(copies, tmp_path):
    copies.rename(tmp_path / "seed_7")
    assert golden.method_of(tmp_path / "seed_7" / "losses.safetensors") == "tad_sr"
    assert golden.run(tmp_path / "seed_7") == 0


def test_folders_of_other_methods_are_not_guessed(tmp_path):
    folder = tmp_path / "invsr"
    folder.mkdir()
    shutil.copy(FILES / "tad_sr" / "degradation.safetensors", folder)
    assert golden.run(tmp_path) == 1


@pytest.fixture
def adaptive(tmp_path):
    folder = tmp_path / "adadiffsr"
    folder.mkdir()
    for name in ("meta.json", "metrics.safetensors", "toy_end_to_end.safetensors"):
        shutil.copy(FILES / "adadiffsr" / name, folder)
    # the first four are the toy's
    traces = json.loads((FILES / "adadiffsr" / "dtss_traces.json").read_text())[:4]
    (folder / "dtss_traces.json").write_text(json.dumps(traces))
    return folder


def failures(capsys):
    return [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL")]


def test_json_files_with_a_check_are_run_and_configuration_is_passed_over(adaptive, capsys):
    assert golden.run(adaptive) == 0
    out = capsys.readouterr().out
    assert out.count("adadiffsr/dtss_traces/") == 4 and "meta" not in out
    assert "adadiffsr/toy_end_to_end/out" in out


@pytest.mark.parametrize(
    ("key", "value"),
    [("level", 3), ("cls", "STABLE"), ("S", 1e-6), ("d", 2), ("best_call", 1), ("I_nr", 0.5), ("t", 993)],
)
def test_one_wrong_entry_of_a_trace_fails(adaptive, capsys, key, value):
    path = adaptive / "dtss_traces.json"
    traces = json.loads(path.read_text())
    (adaptive / "toy_end_to_end.safetensors").unlink()
    assert traces[1]["calls"][1][key] != value
    traces[1]["calls"][1][key] = value
    path.write_text(json.dumps(traces))
    assert golden.run(adaptive) == 1
    assert failures(capsys) == [f"adadiffsr/dtss_traces/{traces[1]['config']}.{traces[1]['region']}"]


def test_a_trace_of_another_length_or_end_fails(adaptive, capsys):
    path = adaptive / "dtss_traces.json"
    traces = json.loads(path.read_text())
    traces[0]["calls"].pop()
    traces[2]["status"] = "complete"
    path.write_text(json.dumps(traces))
    assert golden.run(adaptive) == 1
    assert failures(capsys) == [f"adadiffsr/dtss_traces/{traces[i]['config']}.{traces[i]['region']}" for i in (0, 2)]


@pytest.mark.parametrize("text", ["[]", "{", '[{"config": "x", "region": "y"}]'])
def test_damaged_json_fails_and_the_others_still_run(adaptive, capsys, text):
    (adaptive / "toy_end_to_end.safetensors").unlink()  # it reads the same file
    (adaptive / "dtss_traces.json").write_text(text)
    assert golden.run(adaptive) == 1
    out = capsys.readouterr().out
    assert "adadiffsr/metrics/M" in out and "adadiffsr/dtss_traces  " in out and out.rstrip().endswith("1 failed")


def test_the_scripts_of_the_toy_must_be_beside_it(adaptive, capsys):
    (adaptive / "dtss_traces.json").unlink()
    assert golden.run(adaptive) == 1
    assert "stand in dtss_traces.json" in capsys.readouterr().out


def test_a_folder_of_json_files_alone_is_known_by_them(adaptive, tmp_path):
    folder = tmp_path / "seed_9"
    folder.mkdir()
    (adaptive / "dtss_traces.json").rename(folder / "dtss_traces.json")
    assert golden.method_of(folder / "dtss_traces.json") == "adadiffsr"
    assert golden.run(folder) == 0
    (folder / "dtss_traces.json").rename(folder / "notes.json")
    assert golden.run(folder) == 1  # nothing that anybody checks


def test_schedules_of_another_configuration_pass(tmp_path):
    defaults = {"power": 0.5, "etas_end": 0.97, "steps": 9, "min_noise_level": 0.1, "kappa": 1.6}
    schedule = respace(residual_shift_schedule(9, 0.1, 1.6, 0.5, 0.97, clip_start=True), 4)
    names = ("etas", "alpha", "ddim_k", "posterior_mean_coef1", "input_std", "weight_loss_mse")
    tensors = {f"x.{name}_f64": torch.tensor(getattr(schedule, name)) for name in names}
    tensors["x.timestep_map"] = torch.tensor([0, 2, 4, 6])
    entry = {"tag": "x", "s0_rule": "clipped", "overrides": {"timestep_respacing": 4}}
    path = tmp_path / "schedules.safetensors"
    rewrite(path, tensors, {"defaults": defaults, "entries": [entry]})
    assert golden.run(tmp_path) == 0
    rewrite(path, tensors, {"defaults": defaults | {"kappa": 2.0}, "entries": [entry]})
    assert golden.run(tmp_path) == 1


def test_kernels_of_another_configuration_pass(tmp_path):
    config = {"k": 9, "s": [0.8, 1.9], "th": -1.1, "bg": 0.7, "bp": 1.8, "w": 2.3, "hw": [20, 33], "q": [20.0, 90.0]}
    image = torch.rand(2, 3, 20, 33, generator=torch.Generator().manual_seed(3))
    offsets = torch.arange(-4, 5, dtype=torch.float64)
    distance = (offsets[None] ** 2 + offsets[:, None] ** 2) / 0.8**2
    iso, plateau = torch.exp(-distance / 2), 1 / (1 + distance**1.8)
    tensors = {
        "kernel.iso": (iso / iso.sum()).float(),
        "kernel.plateau_iso": (plateau / plateau.sum()).float(),
        "kernel.aniso": degradation.gaussian_kernel(9, 0.8, 1.9, -1.1),
        "kernel.generalized_aniso": degradation.generalized_kernel(9, 0.7, 0.8, 1.9, -1.1),
        "kernel.sinc": degradation.sinc_kernel(9, 2.3, 13),
        "in.image": image,
        "in.quality": torch.tensor(config["q"]),
        "out.filter2d": image.clone(),
    }
    rewrite(tmp_path / "degradation.safetensors", tensors, config)
    results = golden.check_file(tmp_path / "degradation.safetensors", golden.METHODS["tad_sr"])
    # The stored "filtered" image is not filtered at all, so that line and no other is wrong.
    assert [result.name for result in results if not result.ok] == ["out.filter2d"]
    assert len(results) == 6


def test_relative_error_is_absolute_for_small_tensors():
    assert relative_error(torch.tensor([0.5]), torch.tensor([0.25])) == 0.25
    assert relative_error(torch.tensor([110.0]), torch.tensor([100.0])) == pytest.approx(0.1)
    assert relative_error(torch.zeros(2), torch.zeros(3)) == float("inf")


def test_a_file_is_found_by_its_name_before_a_pattern(tmp_path):
    checks = {"18_e2e_*": failures, "18_e2e_own": rewrite}
    assert golden.find_check(tmp_path / "18_e2e_ddpm7_v.safetensors", checks) is failures
    assert golden.find_check(tmp_path / "18_e2e_own.safetensors", checks) is rewrite
    assert golden.find_check(tmp_path / "19_e2e.safetensors", checks) is None


def test_settings_of_a_schedule_may_be_nested_as_in_published_files():
    flat = schedule_of({"steps": 4, "power": 0.8}, "plain", {"power": 0.3, "kappa": 1.0})
    nested = schedule_of(
        {"steps": 4, "schedule_kwargs": {"power": 0.8}}, "plain", {"kappa": 1.0, "schedule_kwargs": {"power": 0.3}}
    )
    assert nested == flat and nested != schedule_of({"steps": 4}, "plain", {"power": 0.3, "kappa": 1.0})


def test_the_references_ddim_has_a_step_more_where_the_count_does_not_divide_the_chain():
    assert [len(reference_ddim(steps)[0]) for steps in (4, 20, 30, 50)] == [4, 20, 31, 50]
