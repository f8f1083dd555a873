"""The C kernels touch nothing but their arrays, and a planted fault is noticed."""

import shutil

import pytest

from mnistport.errors import UserError
from mnistport.speed.compiling import SOURCE

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no cc")


def complaint(script, folder, sanitizer, real, count, source=SOURCE):
    try:
        program = script.compiled(sanitizer, real, folder, source)
    except UserError as error:
        pytest.skip(str(error))
    return script.complaint(program, script.shapes(count, seed=1))


@pytest.mark.parametrize(
    "real", ["float", pytest.param("double", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "sanitizer",
    [
        "address",
        pytest.param("undefined", marks=pytest.mark.slow),
        pytest.param("thread", marks=pytest.mark.slow),
    ],
)
def test_the_kernels_are_clean(script, tmp_path, sanitizer, real):
    assert complaint(script, tmp_path, sanitizer, real, 20) == ""


FAULTS = {
    "too little room": (
        *("address", "room((kernels + LANES) * sizeof(REAL))", "room(kernels / 2)"),
        "heap-buffer-overflow",
    ),
    "no barrier": (
        "thread",
        "#pragma omp for schedule(static)\n        for (int64_t n = 0; n < s.images; n++)"
        "\n            with_zeros",
        "#pragma omp for schedule(static) nowait\n        "
        "for (int64_t n = 0; n < s.images; n++)\n            with_zeros",
        "data race",
    ),
    "a shift too far": (
        "undefined",
        "int64_t vectors = (length + LANES - 1) / LANES",
        "int64_t vectors = (length + LANES - 1) / LANES + (1 << (length + 31)) * 0",
        "shift",
    ),
    "another sum": (
        *("address", "bias[first + f] += sum", "bias[first + f] += 2 * sum"),
        "expected",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(script, tmp_path, fault):
    sanitizer, right, wrong, said = FAULTS[fault]
    text = SOURCE.read_text()
    assert text.count(right) == 1
    planted = tmp_path / "planted.c"
    planted.write_text(text.replace(right, wrong))
    assert said in complaint(script, tmp_path, sanitizer, "float", 60, planted)


def test_shapes_are_the_same_each_time_and_not_empty(script):
    cases = script.shapes(200, seed=3)
    assert cases == script.shapes(200, seed=3)
    assert len({case[3] for case in cases}) > 5  # channels
    assert {case[-2] for case in cases} == {1, 2, 3, 4}  # threads
