"""`scripts/cluster_drill.py`, in a smaller form, on the digits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "cluster_drill.py"


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_table_of_loky(tmp_path):
    words = ["--out", str(tmp_path), "softmax", "hvass", "--data.source", "digits"]
    words += ["--seeds", "2", "--max-steps", "200", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "cluster.json").read_text())
    loky, dask = document["results"]["loky"], document["results"]["dask"]
    assert len(loky) == 4 and loky == dask
    assert document["environment"]["killed with its worker"] in loky
    assert "4 of 4 runs are the same" in (tmp_path / "cluster.md").read_text()
