"""`scripts/kill_drill.py`: a small one of each way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_drill.py"


@pytest.fixture
def drilled(tmp_path, monkeypatch):
    """Makes two drills of the shortest task, and returns their table."""
    monkeypatch.delenv("MNISTPORT_DATA", raising=False)

    def run(way: str) -> dict:
        words = ["--out", str(tmp_path), "softmax", "--drills", "2", "--way", way]
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *words], capture_output=True, text=True
        )
        if "only root may mount" in done.stderr:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        (row,) = json.loads((tmp_path / "drills.json").read_text())["results"]
        return row

    return run


@pytest.mark.slow
@pytest.mark.parametrize("way", ["killed", "cut short", "full disk"])
def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(drilled, way):
    row = drilled(way)
    assert (row["way"], row["task"], row["drills"]) == (way, "softmax", 2)
    assert (row["same"], row["nothing left"], row["no traceback"]) == (2, 2, 2)


def test_another_end_is_no_success(script):
    sound = {"same": True, "left": [], "one line": True}
    assert script.holds(sound)
    for part in ({"same": False}, {"left": ["a.partial"]}, {"one line": False}):
        assert not script.holds(sound | part)


def test_what_goes_on_from_no_older_checkpoint_is_not_cut_short(script, monkeypatch):
    words = ["kill_drill.py", "--out", "x", "convert", "--way", "cut short"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
