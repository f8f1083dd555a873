"""What a port's file needs comes from `parity` itself, and its import stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import parity


@pytest.mark.parametrize("name", parity.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(parity, name) is not None


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Referenz'"):
        parity.Referenz  # noqa: B018


def test_the_import_alone_brings_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, parity; "
        "print(*sorted({'numpy', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""
