"""A folder in the layout of the Hugging Face hub, read by huggingface_hub."""

import importlib.util
import json
import stat

import pytest
import torch

from mnistport import Classifier, MnistData
from mnistport.errors import UserError
from mnistport.export import as_hf, verdict
from mnistport.export.verdict import Verdict, ask
from mnistport.training.evaluation import score

huggingface_hub = pytest.importorskip("huggingface_hub")

RESULTS = [
    {
        "check": check,
        "dtype": dtype,
        "passed": passed,
        "comparisons": [
            {"max_abs": 0.0, "bound": 0.0},
            {"max_abs": 2e-15, "bound": bound},
            {"max_abs": 1e-15, "bound": 1e-12},
        ],
    }
    for check, dtype, passed, bound in [
        ("weights", "float64", True, 0.0),
        ("forward", "float64", True, 1e-14),
        ("forward", "float32", False, 1e-12),
    ]
]
ANSWER = Verdict(
    command="parity verify hvass",
    results=RESULTS,
    environment={"tensorflow": "2.21.0", "torch": "2.14.1"},
)


def test_from_pretrained_gives_the_checkpoint_s_network_and_the_card_is_filled_in(
    run, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(as_hf, "ask", lambda *_: ANSWER)
    status, out, err = run("hf", "hub")
    assert (status, err) == (0, "")
    assert "loaded by HubNetwork.from_pretrained: the scores of 64 images" in out
    assert "parity verify hvass: 3 claims, 1 fail" in out
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}
    readable = stat.S_IMODE((tmp_path / "hub/model.safetensors").stat().st_mode)
    assert readable == stat.S_IMODE((tmp_path / "hub/README.md").stat().st_mode)

    from mnistport.export.hub import HubNetwork

    network = HubNetwork.from_pretrained(tmp_path / "hub")
    module = Classifier.load_from_checkpoint(checkpoint).eval()
    pixels = torch.rand(5, 784)
    assert torch.equal(network(pixels), module(pixels))

    card = huggingface_hub.ModelCard.load(tmp_path / "hub/README.md")
    data = MnistData("hvass", source="digits")
    data.setup("test")
    accuracy = score(module.net, *data.test).accuracy
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_value) == ("digits", accuracy)
    assert card.data.license == "mit"
    assert f"| 297 | {round(accuracy * 297)} | {accuracy:.4f} |" in card.text
    assert '"about 99 % after 10,000 iterations"' in card.text
    assert "| optimizer steps | 3 (the tutorial's recipe has 10,000 steps) |" in card.text
    assert '| network\'s options | {"fc_size": 8, "keep_prob": 0.5} |' in card.text
    assert "| order of the images | the tutorial's |" in card.text
    assert "| optimizer | Adam(lr=0.0001, beta1=0.9, " in card.text
    assert "| forward | 2e-15 ≤ 1e-14 | **fails** |" in card.text
    assert "**1 of 3 claims do not hold.**" in card.text
    assert "Hvass-Labs/TensorFlow-Tutorials" in card.text


def test_without_an_answer_of_parity_the_card_says_so(run, tmp_path):
    status, out, _ = run("hf", "hub", "--no-parity")
    assert status == 0
    assert "it was left out with --no-parity" in out
    page = (tmp_path / "hub/README.md").read_text()
    assert "This was not asked when the card was written (it was left out" in page
    assert (
        """`parity verify hvass --options '{"fc_size": 8, "keep_prob": 0.5}'`""" in page
    )


def test_a_missing_weight_is_an_error_for_who_loads_the_folder(run, tmp_path):
    from safetensors.torch import load_file, save_file

    from mnistport.export.hub import HubNetwork

    assert run("hf", "hub", "--no-parity")[0] == 0
    file = tmp_path / "hub/model.safetensors"
    weights = load_file(file)
    del weights["net.fc2.bias"]
    save_file(weights, file)
    with pytest.raises(RuntimeError, match=r"fc2\.bias"):
        HubNetwork.from_pretrained(tmp_path / "hub")


def other_weight(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["net.fc1.bias"][0] += 1
    save_file(weights, folder / "model.safetensors")


def other_options(folder):
    config = json.loads((folder / "config.json").read_text())
    config["options"]["pooling"] = "average"
    (folder / "config.json").write_text(json.dumps(config))


def other_metric(folder):
    page = (folder / "README.md").read_text()
    (folder / "README.md").write_text(page.replace("value: ", "value: 1"))


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (other_weight, "1 of 8 values of fc1.bias differ"),
        (other_options, "values of scores differ"),
        (other_metric, "reads other metadata than were written"),
    ],
)
def test_a_wrong_folder_is_refused_and_nothing_is_left(
    hvass, tmp_path, monkeypatch, fault, answer
):
    write = as_hf._write

    def wrong(folder, trained):
        write(folder, trained)
        fault(folder)

    monkeypatch.setattr(as_hf, "_write", wrong)
    with pytest.raises(UserError) as raised:
        as_hf.write(hvass, tmp_path / "hub", ask_parity=False)
    assert answer in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_where_parity_cannot_be_asked_its_own_line_says_why(hvass, monkeypatch, capsys):
    monkeypatch.setattr(verdict, "run", lambda *_: (2, ["parity: needs TensorFlow"]))
    found = ask(hvass, None, None)
    assert found.problem == "parity: needs TensorFlow"
    assert "asking parity verify hvass" in capsys.readouterr().err


def test_parity_is_told_the_options_and_the_data(hvass):
    words = verdict.words_of(hvass, "digits", "here")
    assert words[:3] == ["parity", "verify", "hvass"]
    options = words[words.index("--options") + 1]
    assert json.loads(options) == {"fc_size": 8, "keep_prob": 0.5}
    assert words[-4:] == ["--data.source", "digits", "--data.dir", "here"]


@pytest.mark.slow
def test_a_command_of_this_installation_is_run_and_its_lines_are_kept(capsys):
    status, lines = verdict.run(["parity", "verify", "nothing"], lambda _: True)
    assert status == 2
    assert capsys.readouterr().err == lines[-1] + "\n"
    assert lines[-1].startswith("parity: no reference is called 'nothing'")


@pytest.mark.slow
@pytest.mark.tf
def test_parity_is_asked_about_the_network(made, capsys):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    found = ask(made("softmax"), "digits", None)
    assert not found.problem and not found.failed
    assert {result["dtype"] for result in found.results} == {"float64", "float32"}
    table = verdict.table(found)
    assert table[0] == "| claim | float64 | float32 |"
    assert any(line.startswith("| forward | ") and "≤" in line for line in table)
    assert "  float64  forward        ok" in capsys.readouterr().err
