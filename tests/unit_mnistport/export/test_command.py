"""The command `mnistport export`: what it says, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnistport.cli import main
from mnistport.export import as_tf1, trained
from mnistport.export.command import WRITERS
from mnistport.export.options import FORMATS


def test_help_of_export_needs_no_torch_and_names_every_format():
    code = (
        "import sys; from mnistport.cli import main\ntry: main(['export', '--help'])\n"
        "except SystemExit: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(FORMATS) == set(WRITERS)
    assert all(f"  {name} " in done.stdout for name in FORMATS)


@pytest.mark.parametrize("form", [form for form in WRITERS if WRITERS[form].needs])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    run, tmp_path, monkeypatch, form
):
    package = WRITERS[form].needs[0]
    monkeypatch.setitem(sys.modules, package, None)
    status, out, err = run(form, f"a{WRITERS[form].suffix}")
    assert (status, out) == (2, "")
    assert err == (
        f"mnistport: --format {form} needs {package}; "
        "install it: pip install 'mnistport[export]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_stays_as_it_is(run, tmp_path):
    (tmp_path / "a.pt2").write_text("mine")
    status, _, err = run("torch-export", "a.pt2")
    assert status == 2 and "exists already" in err
    assert (tmp_path / "a.pt2").read_text() == "mine"


def test_weights_in_float64_are_exported_in_float32_and_that_is_said(
    checkpoint, tmp_path, capsys
):
    stored = torch.load(checkpoint, weights_only=True)
    for name, weight in stored["state_dict"].items():
        stored["state_dict"][name] = weight.double()
    torch.save(stored, tmp_path / "float64.ckpt")
    words = ["--format", "safetensors", "--out", str(tmp_path / "a.safetensors")]
    assert main(["export", str(tmp_path / "float64.ckpt"), *words]) == 0
    assert "weights are float64; float32 is exported" in capsys.readouterr().err


def test_a_conversion_to_tf1_rounds_nothing_and_says_nothing_of_it(
    checkpoint, tmp_path, monkeypatch, capsys
):
    stored = torch.load(checkpoint, weights_only=True)
    for name, weight in stored["state_dict"].items():
        stored["state_dict"][name] = weight.double()
    torch.save(stored, tmp_path / "float64.ckpt")

    def run(words, shown):
        Path(f"{words[3]}.index").write_text("")
        return 0, ["the first line", "proven"]

    monkeypatch.setattr(as_tf1, "run", run)
    words = ["--format", "tf1", "--out", str(tmp_path / "model")]
    assert main(["export", str(tmp_path / "float64.ckpt"), *words]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\nproven\n")
    assert "float32 is exported" not in err


def test_weights_that_are_nan_are_not_exported(checkpoint, tmp_path, capsys):
    stored = torch.load(checkpoint, weights_only=True)
    stored["state_dict"]["net.fc2.bias"][0] = float("nan")
    torch.save(stored, tmp_path / "nan.ckpt")
    words = ["--format", "safetensors", "--out", str(tmp_path / "a.safetensors")]
    assert main(["export", str(tmp_path / "nan.ckpt"), *words]) == 2
    assert "fc2.bias has values that are infinite or NaN" in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()


def test_the_newest_checkpoint_is_named(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(checkpoint.parents[1])
    assert trained.load("last").step == 3
    assert f"last is checkpoints/{checkpoint.name}" in capsys.readouterr().err
