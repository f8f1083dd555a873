"""YAML makes no Python objects, and a short text does not stand for a long one."""

import subprocess
import sys
import time

import fsspec
import pytest
import yaml

from mnistport.cli import main
from mnistport.training import yaml_text


def laughs():
    text, last = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n", "a"
    for name in "bcdefghij":
        text += f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
        last = name
    return text


REFUSED = {
    "a system call": ('a: !!python/object/apply:os.system ["touch exploded"]', "python"),
    "a function": ("a: !!python/name:os.system", "python"),
    "a module": ("a: !!python/module:os", "python"),
    "an object": ('a: !!python/object/new:os.system ["touch exploded"]', "python"),
    "billions of laughs": (laughs(), "stands for more than 1,000,000 values"),
    "itself": ("&a [*a]", "nested more than 100 levels deep"),
    "deep": ("a: " + "[" * 500 + "]" * 500, "nested more than 100 levels deep"),
    "deeper": ("a: " + "[" * 90_000, "nested more than 100 levels deep"),
    "maps in maps": ("{a: " * 20_000, "nested more than 100 levels deep"),
    "long": ("a" * 100_001, "more than 100,000 letters"),
    "no text": ("a: b\0", None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, reason = REFUSED[case]
    start = time.perf_counter()
    with pytest.raises(yaml.YAMLError, match=reason):
        yaml_text.load(text)
    assert time.perf_counter() - start < 5
    assert not (tmp_path / "exploded").exists()


def test_what_is_read():
    text = "a: &a [1, 0.5, x]\nb: *a\nc: {d: null, e: true}\n"
    expected = {"a": [1, 0.5, "x"], "b": [1, 0.5, "x"], "c": {"d": None, "e": True}}
    assert yaml_text.load(text) == expected


CALLS = {
    "an option": "model: {network: hvass, options: {fc_size: %s}}",
    "a part of an option": "model: {network: hvass, options: {fc_size: [{a: %s}]}}",
    "a callback": "model: {network: hvass}\ntrainer: {callbacks: %s}",
    "callbacks": "model: {network: hvass}\ntrainer: {callbacks: [%s]}",
    "a logger": "model: {network: hvass}\ntrainer: {logger: %s}",
    "a plug-in": "model: {network: hvass}\ntrainer: {plugins: %s}",
    "a strategy": "model: {network: hvass}\ntrainer: {strategy: %s}",
    "a profiler": "model: {network: hvass}\ntrainer: {profiler: %s}",
    "an argument of a callback": "model: {network: hvass}\ntrainer: {callbacks: "
    "{class_path: LambdaCallback, init_args: {on_fit_start: %s}}}",
    "an argument of a logger": "model: {network: hvass}\ntrainer: {logger: "
    "{class_path: CSVLogger, init_args: {save_dir: ., name: %s}}}",
}
FUNCTION = "{class_path: os.system, init_args: {command: touch exploded}}"
CLASS = "{class_path: subprocess.Popen, init_args: {args: [touch, exploded]}}"


@pytest.mark.parametrize("what", [FUNCTION, CLASS], ids=["function", "class"])
@pytest.mark.parametrize("case", CALLS)
def test_nothing_is_called_that_a_configuration_names(
    case, what, tmp_path, monkeypatch, capsys
):
    """Not `os.system`. What has a type of Lightning's is made, if it is of that type."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CALLS[case] % what)
    words = ["fit", "--config", "c.yaml", "--trainer.max_steps", "1"]
    words += ["--data.source", "digits", "--trainer.accelerator", "cpu"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err, err
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("group", ["trainer", "model", "data"])
def test_a_part_of_a_configuration_is_not_fetched(group, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.pipe("/c.yaml", b"max_steps: 1\n")
    words = ["fit", "--config", "softmax", f"--{group}", "memory://c.yaml"]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", ["a system call", "billions of laughs", "deeper"])
@pytest.mark.parametrize("where", ["options", "callbacks"])
def test_the_command_refuses_them_in_one_line(case, where, tmp_path):
    group = {"options": "model", "callbacks": "trainer"}[where]
    inside = "\n".join(f"    {line}" for line in REFUSED[case][0].splitlines())
    text = f"seed_everything: 0\n{group}:\n  {where}:\n{inside}\n"
    (tmp_path / "c.yaml").write_text(text)
    words = ["mnistport", "fit", "--config", "c.yaml", "--model.network", "softmax"]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 2200
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]
