"""The command line: exit status, one line for a mistake, the JSON, whole files."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistport import files, networks
from mnistport.errors import UserError
from parity import checks, references, tf1
from parity.checks import CHECKS
from parity.cli import main, parser
from parity.commands.verify_run import _instead
from parity.compare import Comparison, compare
from parity.tolerances import exact

HERE = Path(__file__).parent
TINY = str(HERE / "tiny_port.py")
EXAMPLE = HERE.parents[1] / "examples" / "regression" / "port.py"
COMPARISON = {"name", "count", "max_abs", "max_rel", "max_ulp", "bound", "worst_index"}

BROKEN = """
import torch
from dataclasses import replace
from parity import references

SOUND = references.get({sound!r})

class Broken(SOUND.port.module):
    def __init__(self):
        super().__init__()
        self.{layer} = torch.nn.Identity()

REFERENCE = replace(SOUND, port=replace(SOUND.port, name="broken", module=Broken))
"""


def python(
    code: str, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def refused(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """The line on standard error of a command that must exit with 2.

    It must print nothing else.
    """
    try:
        status = main(words)
    except SystemExit as stop:  # argparse's way
        status = int(str(stop.code))
    out, error = capsys.readouterr()
    assert (status, out) == (2, "")
    assert error.startswith("parity")
    assert error.count("\n") == 1
    return error


# Without torch or TensorFlow


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["verify", "--help"], ["--version"], ["list"], ["verify", "--nope"]],
)
def test_help_version_and_list_import_no_framework(words: list[str]) -> None:
    code = (
        "import sys\nfrom parity.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'tensorflow', 'numpy', 'pytorch_lightning'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    process = python(code, *words)
    assert process.returncode == 0, process.stderr


def test_without_a_command_the_help_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = []
    for words in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "verify " in printed[0]


def test_list_names_every_network_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    names = list(networks.BUILT_IN)
    assert [line.split()[0] for line in out.splitlines() if line][: len(names)] == names
    for check in CHECKS:
        assert f"{check.name} " in out
        assert check.claim in " ".join(out.split())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_each_check_has_its_function(check: checks.Check) -> None:
    module = importlib.import_module(f"parity.checks.{check.module or check.name}")
    assert callable(getattr(module, check.name))
    assert set(check.precisions) <= {"float64", "float32"}


def test_each_file_of_checks_belongs_to_a_check() -> None:
    folder = Path(checks.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {check.module or check.name for check in CHECKS}


def test_help_lists_each_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for option in (
        "--checks",
        "--dtype",
        "--device",
        "--seed",
        "--json",
        "--out",
        "--data.source",
        "--data.dir",
    ):
        assert option in out


# Questions that cannot be asked


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["verify", "depp"],
            "parity: no reference is called 'depp'; did you mean 'deep'? "
            "Known: softmax_beginners",
        ),
        (
            ["verify", "deep", "--checks", "forwad"],
            "parity: --checks forwad: no check is called 'forwad'; there are ",
        ),
        (
            ["verify", "deep", "--checks", ","],
            "parity: --checks ,: it names no check; there are ",
        ),
        (
            ["verify", "deep", "--device", "tpu"],
            "parity: --device tpu: there is no such device; use cpu, cuda or cuda:N",
        ),
        (
            ["verify", "deep", "--device", "cuda:x"],
            "parity: --device cuda:x: there is no such device; use cpu, cuda or cuda:N",
        ),
        (
            ["verify", "not_there.py"],
            "parity: not_there.py: no such file; "
            "give a Python file that defines REFERENCE",
        ),
        (
            ["verify", "--dtype", "float16"],
            "parity verify: argument --dtype: invalid choice: 'float16'",
        ),
        (
            ["verify", "--seed", "-1"],
            "parity verify: argument --seed: -1 is not a whole number "
            "from 0 to 4294967295",
        ),
        (
            ["verify", TINY, "--data.source", "digits"],
            "parity: tiny brings its own data; leave out --data.source",
        ),
        (
            ["verify", TINY, "--data.dir", "x"],
            "parity: tiny brings its own data; leave out --data.dir",
        ),
        (
            ["verify", TINY, TINY.replace("unit_parity/", "unit_parity/./")],
            "are both called 'tiny'; rename one",
        ),
        (
            ["verify", "softmax", "--data.source", "mnist", "--data.dir", "/not/there"],
            "/not/there",
        ),
        (["nope"], "parity: argument COMMAND: invalid choice: 'nope'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    words: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The mistake is found before TensorFlow is used.
    monkeypatch.setattr(tf1, "load", lambda: None)
    assert line in refused(capsys, words)


def test_cuda_without_a_device_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    line = refused(capsys, ["verify", TINY, "--device", "cuda"])
    assert (
        line
        == "parity: --device cuda: torch sees 0 CUDA devices here; use --device cpu\n"
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "torch sees 1 CUDA devices here" in refused(
        capsys, ["verify", TINY, "--device", "cuda:1"]
    )


WITHOUT_TENSORFLOW = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tf_keras", "keras"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from parity.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_tensorflow_the_question_cannot_be_asked(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    process = python(WITHOUT_TENSORFLOW, "verify", TINY, "--out", out)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(
        "parity: TensorFlow, the original's side, cannot be imported ("
    )
    assert process.stderr.endswith("pip install 'mnistport[parity]'\n")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "place", "why"),
    [
        ("--json", "missing/verify.json", "its folder does not exist"),
        ("--json", ".", "is a folder; name a file"),
        ("--json", "file/verify.json", "its folder does not exist"),
        ("--out", "file", "is a file; name a folder"),
        ("--out", "file/deeper", "is a file; name a folder"),
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_any_work(
    option: str,
    place: str,
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(references, "get", lambda target: pytest.fail("work has begun"))
    (tmp_path / "file").write_text("kept")
    line = refused(capsys, ["verify", TINY, option, str(tmp_path / place)])
    assert line.startswith(f"parity: {option} {tmp_path / place}: ")
    assert why in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_folder_that_takes_no_file_is_refused_before_any_work(
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_file(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    # Root may write anywhere, so the refusal is simulated.
    monkeypatch.setattr(files.tempfile, "TemporaryFile", no_file)
    path = tmp_path / "new"
    line = refused(capsys, ["verify", TINY, option, str(path)])
    why = "cannot be written there (Permission denied)"
    assert line == f"parity: {option} {path}: {why}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def make(:\n", "port.py, line 1: SyntaxError: "),
        ("import nowhere_at_all\n", "port.py, line 1: ModuleNotFoundError: "),
        ("x = 1\nREFERENCE = y\n", "port.py, line 2: NameError: name 'y' is not"),
        ("x = '\\x00'\nREFERENCE = x.z\n", "port.py, line 2: AttributeError: "),
        ("\x00", "port.py: no Python that can be read (source code string"),
        ("REFERENCE = 1\n", "REFERENCE is a int; define REFERENCE = parity."),
        ("", "REFERENCE is nothing; define REFERENCE = parity."),
        ("raise SystemExit(0)\n", "port.py: ends the program when it is imported"),
        ("import sys\nsys.exit(3)\n", "port.py: ends the program when it is imported"),
        ("raise ValueError('a\\nb')\n", "port.py, line 1: ValueError: a b ("),
    ],
)
def test_a_port_that_cannot_be_read_is_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "port.py").write_text(text)
    assert said in refused(capsys, ["verify", str(tmp_path / "port.py")])


def test_an_error_in_a_port_names_its_line_and_gives_a_traceback_if_asked(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "port.py").write_text(
        "def make():\n    return 1 / 0\nREFERENCE = make()\n"
    )
    line = refused(capsys, ["verify", str(tmp_path / "port.py")])
    assert "port.py, line 2: ZeroDivisionError: division by zero (PARITY_TRACE" in line
    monkeypatch.setenv("PARITY_TRACEBACK", "1")
    assert main(["verify", str(tmp_path / "port.py")]) == 2
    error = capsys.readouterr().err
    assert f'File "{tmp_path / "port.py"}", line 2, in make' in error


@pytest.mark.tf
def test_an_error_with_no_line_of_the_port_is_one_line_too(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch raises it when it is asked for the shape, and no line is the user's."""
    (tmp_path / "port.py").write_text(
        "from dataclasses import replace\nimport torch\nfrom parity import references\n"
        f"SOUND = references.get({TINY!r})\n"
        "module = lambda: torch.nn.LazyLinear(3)\n"
        "REFERENCE = replace(SOUND, port=replace(SOUND.port, module=module))\n"
    )
    words = ["verify", str(tmp_path / "port.py"), "--dtype", "float64"]
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.startswith("parity: ") and line.count("\n") == 1
    assert "uninitialized param" in line and "stopped at tiny weights float64" in line
    assert len(line) < 500
    monkeypatch.setenv("PARITY_TRACEBACK", "1")
    assert main(words) == 2
    assert "Traceback" in capsys.readouterr().err


def suggested(text: str) -> list[str]:
    """The words of the one command that a message suggests, without the program."""
    (command,) = re.findall(r"`(parity [^`]+)`", text)
    program, *words = shlex.split(command)
    assert program == "parity"
    return words


OPTIONS = {
    "--seed 3 --data.source digits": {"seed": 3, "source": "digits"},
    "--options pooling=average,fc_size=8": {
        "options": {"pooling": "average", "fc_size": 8}
    },
    "--data.dir 'a folder' --data.source mnist": {
        "directory": "a folder",
        "source": "mnist",
    },
}


@pytest.mark.tf
@pytest.mark.parametrize("options", OPTIONS)
def test_the_command_that_is_suggested_for_float32_exists(options: str) -> None:
    args = parser("verify").parse_args(["verify", "hvass", *shlex.split(options)])
    words = suggested(_instead(checks.get("lockstep"), args.targets[0], args))
    again = parser("lockstep").parse_args(words)
    assert (again.command, again.target) == ("lockstep", "hvass")
    assert (again.steps, again.dtype) == ("50", "float32")
    for name, value in OPTIONS[options].items():
        assert getattr(again, name) == value


@pytest.mark.tf
def test_a_suggested_command_names_the_file_of_the_port_and_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", TINY, "--seed", "2", "--checks", "lockstep", "--dtype", "float32"]
    command = suggested(refused(capsys, words))
    assert command[1] == TINY and command[-2:] == ["--seed", "2"]
    command[command.index("50")] = "2"
    assert main([*command, "--out", str(tmp_path / "out")]) == 0


@pytest.mark.tf
def test_mutants_suggests_the_command_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a port.py"
    file.write_text(
        "from dataclasses import replace\nfrom parity import references\n"
        f"SOUND = references.get({TINY!r})\n"
        "REFERENCE = replace(SOUND, port=replace(SOUND.port, loss=lambda o, f: o.sum()))"
    )
    command = suggested(refused(capsys, ["mutants", str(file), "--seed", "2"]))
    assert command == ["verify", str(file), "--dtype", "float64", "--seed", "2"]
    assert main(command) == 1


# Claims


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """`parity verify` of the example, in both precisions.

    It gives the exit status, the printed text and the folder of the results.
    """
    folder = tmp_path_factory.mktemp("verified")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        paths = ["--json", f"{folder}/example.json", "--out", f"{folder}/deep/er"]
        status = main(["verify", str(EXAMPLE), *paths])
    return status, printed.getvalue(), folder


@pytest.mark.tf
def test_the_example_holds_in_both_precisions(verified: tuple[int, str, Path]) -> None:
    status, out, _ = verified
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "regression on 1,000 made-up measurements"
    assert lines[1:4] == [
        "  recipe: not asked, as the reference gives no Reference(recipe=...)",
        "  draws: not asked, as the reference gives no dropouts whose numbers its "
        "Trainer(draws=...) tells",
        "  product: not asked, as the reference gives no Reference(commands=...)",
    ]
    claims = [tuple(line.split()[:3]) for line in lines if line.startswith("  float")]
    for check in ("weights", "forward", "loss", "gradients", "step", "accuracy"):
        for dtype in ("float64", "float32"):
            assert (dtype, check, "ok") in claims
    verdict = f"all {len(claims)} claims hold: 1 network, "
    assert any(line.startswith(verdict) for line in lines)
    assert any(
        line.startswith("float32: as exact as TF1? ")
        and "4 times" in line
        and "32 ulp" in line
        for line in lines
    )


@pytest.mark.tf
def test_the_json_has_the_documented_fields(verified: tuple[int, str, Path]) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    document = json.loads(
        (verified[2] / "example.json").read_text(), parse_constant=no_constant
    )
    assert set(document) == {"schema", "environment", "results"}
    assert document["schema"] == 1
    environment = document["environment"]
    assert environment["data"] == {"regression": "1,000 made-up measurements"}
    assert environment["command"].startswith("parity verify ")
    assert {"python", "torch", "tensorflow", "numpy", "processor", "cores"} <= set(
        environment
    )
    assert len(document["results"]) >= 12
    for result in document["results"]:
        assert {
            "network",
            "check",
            "dtype",
            "device",
            "passed",
            "comparisons",
            "command",
        } <= set(result)
        assert (result["network"], result["device"], result["passed"]) == (
            "regression",
            "cpu",
            True,
        )
        assert result["check"] in {check.name for check in CHECKS}
        assert result["dtype"] in ("float64", "float32")
        check, dtype = result["check"], result["dtype"]
        assert result["command"] == (
            f"parity verify {EXAMPLE} --checks {check} --dtype {dtype}"
        )
        assert result["comparisons"]
        for comparison in result["comparisons"]:
            assert set(comparison) >= COMPARISON
            assert isinstance(comparison["name"], str)
            assert comparison["count"] > 0
            assert 0 <= comparison["max_abs"] <= comparison["bound"]
            assert comparison["reason"]
            assert Comparison.from_json(comparison).passed


@pytest.mark.tf
def test_out_holds_the_same_json_and_a_page(verified: tuple[int, str, Path]) -> None:
    folder = verified[2] / "deep" / "er"
    assert sorted(path.name for path in folder.iterdir()) == ["verify.json", "verify.md"]
    assert (folder / "verify.json").read_text() == (
        verified[2] / "example.json"
    ).read_text()
    page = (folder / "verify.md").read_text()
    assert "on 1,000 made-up measurements." in page
    assert "| regression | float64 |" in page
    assert "fails" not in page


@pytest.mark.tf
def test_a_broken_copy_of_the_example_exits_1_and_names_the_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXAMPLE.read_text()
    assert text.count("nn.Tanh()") == 1
    (tmp_path / "port.py").write_text(text.replace("nn.Tanh()", "nn.Sigmoid()"))
    words = [
        "verify",
        str(tmp_path / "port.py"),
        "--dtype",
        "float64",
        "--json",
        str(tmp_path / "broken.json"),
    ]
    assert main([*words, "--checks", "forward,loss"]) == 1
    out, error = capsys.readouterr()
    assert error == ""
    assert "float64  forward        FAIL" in out
    assert "regression · forward: 'hidden' differs.\n" in out
    assert (
        f"Again: parity verify {tmp_path / 'port.py'} --checks forward --dtype float64\n"
        in out
    )
    assert (
        "2 of 2 claims FAIL: regression forward float64, regression loss float64" in out
    )
    results = json.loads((tmp_path / "broken.json").read_text())["results"]
    assert [result["passed"] for result in results] == [False, False]
    assert results[0]["comparisons"][0]["max_abs"] > 0.1


@pytest.mark.tf
def test_the_last_stage_that_agrees_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "port.py").write_text(BROKEN.format(sound=TINY, layer="relu"))
    words = ["verify", str(tmp_path / "port.py"), "--dtype", "float32"]
    assert main([*words, "--checks", "forward"]) == 1
    out = capsys.readouterr().out
    assert "broken · forward: 'fc' differs." in out
    assert "'pool' before it agrees." in out
    assert "The bound: 4 x TF1's own float32 error" in out


FAILS_LATER = """
from dataclasses import replace
from parity import references

SOUND = references.get({sound!r})

def data(seed):
    sound = SOUND.data(seed)
    def batch(step):
        raise OSError("the disk is gone")
    return replace(sound, batch=batch)

REFERENCE = replace(SOUND, port=replace(SOUND.port, name="later"), data=data)
"""


@pytest.mark.tf
def test_results_before_an_error_are_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later, folder = tmp_path / "port.py", tmp_path / "out"
    later.write_text(FAILS_LATER.format(sound=TINY))
    words = [
        "verify",
        TINY,
        str(later),
        "--dtype",
        "float64",
        "--checks",
        "weights,forward",
        "--out",
        str(folder),
    ]
    assert main(words) == 2
    assert "the disk is gone" in capsys.readouterr().err
    results = json.loads((folder / "verify.json").read_text())["results"]
    assert [(result["network"], result["check"]) for result in results] == [
        ("tiny", "weights"),
        ("tiny", "forward"),
    ]
    assert "| tiny | float64 |" in (folder / "verify.md").read_text()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            [TINY, "--checks", "weights,data"],
            "parity: tiny: the check data needs Data(original=...), which it does",
        ),
        (
            [TINY, "--checks", "trainer"],
            "parity: tiny: the check trainer needs Reference(trainer=...), which it does",
        ),
        (
            [TINY, "--data.source", "digits"],
            "parity: tiny brings its own data; leave out --data.source",
        ),
        (
            ["--checks", "lockstep", "--dtype", "float32"],
            "parity: lockstep: asked in float64 only, as rounding parts",
        ),
    ],
)
def test_no_target_is_verified_before_all_questions_can_be_asked(
    more: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tf1, "load", lambda: None)
    # Without MNIST the digits are announced once in a process. Let that be over.
    monkeypatch.setattr("mnistport.data.sources._said_digits", True)
    assert line in refused(capsys, ["verify", "softmax", *more])


def test_known_departures_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        checks.Check,
        "__call__",
        lambda *_: [compare("x", np.ones(1), np.ones(1), exact())],
    )
    words = [
        "verify",
        "deep",
        "--data.source",
        "digits",
        "--checks",
        "forward",
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    assert (
        "  known departure: the uniform draws inside tf.nn.dropout are fed; both"
        in capsys.readouterr().out
    )
    assert (
        "- deep: the uniform draws inside tf.nn.dropout are fed; both"
        in (tmp_path / "verify.md").read_text()
    )


@pytest.mark.tf
def test_the_command_to_run_again_carries_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, file = str(HERE / "tiny_port.py"), tmp_path / "seeded.json"
    options = ["--seed", "3", "--checks", "forward", "--json", str(file)]
    assert main(["verify", target, *options]) == 0
    commands = [result["command"] for result in json.loads(file.read_text())["results"]]
    assert commands == [
        f"parity verify {target} --checks forward --dtype {d} --seed 3"
        for d in ("float64", "float32")
    ]
    assert main([*commands[0].split()[1:]]) == 0
    capsys.readouterr()


def half_written(file: Path, raised: Exception) -> None:
    file.write_text("half")
    raise raised


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "state.npz"
    with files.written_whole(file) as partial:
        assert partial.parent == file.parent
        partial.write_text("first")
        assert not file.exists()
    assert file.read_text() == "first"
    for raised, shown in (
        (ZeroDivisionError(), ZeroDivisionError),
        (OSError(28, "No space left"), UserError),
    ):
        with pytest.raises(shown), files.written_whole(file) as partial:
            half_written(partial, raised)
    assert file.read_text() == "first"
    assert [path.name for path in file.parent.iterdir()] == ["state.npz"]


def test_a_stop_while_writing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "verify.json"
    file.write_text("before")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(file, "after")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["verify.json"]
    assert file.read_text() == "before"
    files.write_whole(file, "after")
    assert [path.name for path in tmp_path.iterdir()] == ["verify.json"]
    assert file.read_text() == "after"


def test_ctrl_c_says_so_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(target: str, options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(references, "get", stopped)
    assert main(["verify", TINY]) == 130
    assert capsys.readouterr().err == "parity: interrupted\n"
