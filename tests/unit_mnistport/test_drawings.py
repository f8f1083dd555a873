"""People's own digits become what MNIST's images are."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mnistport.cli import main
from mnistport.data.sources import load
from mnistport.drawings.normalising import as_mnist, stroke_width
from mnistport.drawings.reading import read_ink
from mnistport.errors import UserError


@pytest.fixture(scope="module")
def digits(mnist_dir) -> np.ndarray:
    """Images of MNIST, uint8 [8, 28, 28]."""
    return load("mnist", mnist_dir).test.images[:8].reshape(-1, 28, 28)


def large(digit: np.ndarray, side: int = 300) -> np.ndarray:
    """A digit on white paper, 0 to 1."""
    picture = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return 1.0 - np.asarray(picture, float) / 255.0


def bytes_of(values: np.ndarray) -> np.ndarray:
    return (255 * values.clip(0, 1)).astype(np.uint8)


def on_paper(digit):
    return Image.fromarray(bytes_of(large(digit)))


def on_a_board(digit):
    return Image.fromarray(bytes_of(1 - large(digit)))


def blue_ink_under_a_lamp(digit):
    paper = large(digit)[..., None]
    light = np.linspace(0.45, 0.9, 300)[None, :, None]
    colour = light * (paper * [0.95, 0.93, 0.85] + (1 - paper) * [0.1, 0.15, 0.5])
    noise = np.random.default_rng(0).normal(0, 0.02, colour.shape)
    return Image.fromarray(bytes_of(colour + noise))


def dark_on_nothing(digit):
    alpha = bytes_of(1 - large(digit))
    return Image.fromarray(np.dstack([np.zeros((*alpha.shape, 3), np.uint8), alpha]))


def light_on_nothing(digit):
    alpha = bytes_of(1 - large(digit))
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 255, np.uint8), alpha]))


def small_in_a_corner_with_a_spot(digit):
    whole = Image.new("L", (500, 350), 255)
    whole.paste(on_paper(digit).resize((140, 140)), (20, 190))
    whole.paste(0, (480, 20, 483, 23))
    return whole


def turned_by_the_camera(digit):
    picture = on_paper(digit).rotate(90)
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.info["exif"] = exif.tobytes()
    return picture


KINDS = [
    *(on_paper, on_a_board, blue_ink_under_a_lamp, dark_on_nothing, light_on_nothing),
    *(small_in_a_corner_with_a_spot, turned_by_the_camera),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_an_image_of_mnist_becomes_that_image(kind, digits, tmp_path):
    alike = []
    for number, digit in enumerate(digits):
        file = tmp_path / f"{number}.png"
        picture = kind(digit)
        picture.save(file, exif=picture.info.get("exif", b""))
        found = as_mnist(read_ink(file)).astype(float)
        alike.append(np.corrcoef(found.ravel(), digit.ravel())[0, 1])
    assert min(alike) > 0.6  # one row higher or lower is enough for that
    assert np.mean(alike) > 0.85


def test_an_image_in_its_own_size_stays_as_it_is(digits):
    for digit in digits:
        cropped = as_mnist(digit / 255.0).astype(float)
        assert np.abs(cropped - digit).mean() < 4


def test_a_thin_pen_gets_strokes_as_thick_as_mnists():
    ink = np.zeros((200, 200))
    ink[30:170, 99:102] = 1.0
    found = as_mnist(ink) / 255.0
    assert 1.5 < stroke_width(found) < 3.5
    assert np.flatnonzero(found.any(1)).tolist() == list(range(4, 24))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (28, 28)])
def test_a_picture_without_a_digit_is_refused(shape, tmp_path):
    Image.new("L", shape[::-1], 200).save(tmp_path / "empty.png")
    with pytest.raises(UserError, match="no digit was found"):
        as_mnist(read_ink(tmp_path / "empty.png"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).random((50, 50)) > 0.5
    Image.fromarray(bytes_of(values * 1.0)).save("noise.png")
    picture = Image.new("RGB", (90, 120), "white")
    picture.paste("black", (40, 20, 50, 100))
    picture.save("one.jpg")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "one.jpg").read_bytes()[:400])
    (tmp_path / "folder.png").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of softmax_beginners, whose output are probabilities."""
    folder = tmp_path_factory.mktemp("trained")
    words = "fit --config softmax_beginners --data.source digits --trainer.max_steps 60 "
    words += f"--trainer.accelerator cpu --trainer.default_root_dir {folder}"
    assert main(words.split()) == 0
    (file,) = folder.rglob("epoch*.ckpt")
    return file


def test_table_csv_and_json_say_the_same(here, trained, capsys, monkeypatch):
    monkeypatch.setenv("MNISTPORT_DATA", str(here / "gone"))  # MNIST is not needed
    words = ["predict", "--ckpt_path", str(trained), "--images", "one.jpg", "noise.png"]
    capsys.readouterr()
    assert main([*words, "--format", "json", "--seen", "seen.png"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [one["file"] for one in found] == ["one.jpg", "noise.png"]
    assert found[0]["class"] == int(np.argmax(found[0]["probabilities"]))
    assert sum(found[0]["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert said.err == "what the network saw: seen.png\n"
    with Image.open("seen.png") as seen:
        assert seen.size[0] > 300
    assert main([*words, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["class"]) for row in rows] == [one["class"] for one in found]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["one.jpg", str(found[0]["class"])]


def test_probabilities_are_those_of_the_module(here, trained, capsys):
    words = ["predict", "--ckpt_path", str(trained), "--images", "one.jpg"]
    capsys.readouterr()
    assert main([*words, "--format", "json"]) == 0
    weights = torch.load(trained, weights_only=True)["state_dict"]
    pixels = torch.tensor(as_mnist(read_ink(here / "one.jpg")) / 255.0).flatten().float()
    scores = weights["net.fc.weight"] @ pixels + weights["net.fc.bias"]
    found = json.loads(capsys.readouterr().out)[0]["probabilities"]
    np.testing.assert_allclose(found, torch.softmax(scores, 0).numpy(), atol=1e-6)


MISTAKES = {
    "--images gone.png": "gone.png: no such file",
    "--images folder.png": "folder.png: not a file",
    "--images text.png": "text.png: not a picture that can be read",
    "--images half.jpg": "half.jpg: the picture cannot be read",
    "--images one.jpg --format x": "invalid choice",
    "--images": "expected at least one argument",
    "--images one.jpg --seen seen.txt": "expected a .png, .svg or .pdf file",
    "--images one.jpg --trainer.devices 1": "unrecognized arguments",
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.items())
def test_a_mistake_is_answered_in_one_line(here, trained, capsys, words, said):
    capsys.readouterr()
    assert main(["predict", *words.split(), "--ckpt_path", str(trained)]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_huge_picture_is_refused_before_it_is_unpacked(here, trained, capsys):
    Image.new("1", (12_000, 12_000)).save("large.png")
    Image.new("1", (20_000, 20_000)).save("huge.png")
    capsys.readouterr()
    words = ["predict", "--ckpt_path", str(trained), "--images"]
    assert main([*words, "large.png"]) == 2
    assert "12000 x 12000 pixels are more than 100,000,000" in capsys.readouterr().err
    assert main([*words, "huge.png"]) == 2
    assert "huge.png: the picture is too large" in capsys.readouterr().err
