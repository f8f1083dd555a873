"""YAML makes no Python objects, and a short text does not stand for a long one."""

import subprocess
import sys
import time

import pytest
import yaml

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
    "deep": ("a: " + "[" * 500 + "]" * 500, "deep"),
    "deeper": ("a: " + "[" * 90_000, None),
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
