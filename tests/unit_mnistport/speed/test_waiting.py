"""Threads that wait sleep soon, unless the user has chosen something else."""

import os
import subprocess
import sys

import pytest

from mnistport.speed.waiting import SPINS, sleep_soon

CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "MNISTPORT_TUNE")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, SPINS),
        ({"MNISTPORT_TUNE": "0"}, None),
        ({"OMP_WAIT_POLICY": "active"}, None),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_the_users_choice_is_left_alone(chosen, expected, monkeypatch):
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    sleep_soon()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)


def test_a_command_settles_it_before_torch_is_imported():
    """libgomp reads the setting when it is loaded."""
    program = (
        "import os, sys\n"
        "class Looking:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "            raise SystemExit\n"
        "sys.meta_path.insert(0, Looking())\n"
        "from mnistport.cli import main\n"
        "main(['fit', '--config', 'softmax'])\n"
    )
    plain = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", program], env=plain, capture_output=True, text=True
    )
    assert done.stdout == f"{SPINS}\n", done.stderr
