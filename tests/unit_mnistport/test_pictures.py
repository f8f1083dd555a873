"""Pictures show what they say, and the commands write all of them."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from mnistport import networks, pictures
from mnistport.cli import main
from mnistport.errors import UserError
from mnistport.pictures import style
from mnistport.pictures.album import Album
from mnistport.pictures.layer_outputs import images_of_layers

QUIET = (
    "--data.source digits --trainer.accelerator cpu --trainer.enable_progress_bar false"
)


@pytest.fixture(scope="module")
def hvass() -> nn.Module:
    torch.manual_seed(0)
    return networks.make_module(networks.get("hvass"), {})


def texts(figure) -> list[str]:
    return [axes.get_xlabel() for axes in figure.axes]


def test_a_grid_names_each_image_and_shows_wrong_answers():
    pixels = np.random.default_rng(0).random((12, 784))
    figure = pictures.grid(pixels, range(12), [0, 9, *range(2, 12)])
    assert texts(figure)[:2] == [
        "no. 0\ntrue 0, predicted 0",
        "no. 1\ntrue 1, predicted 9",
    ]
    assert len(texts(figure)) == 9
    colours = [axes.xaxis.label.get_color() for axes in figure.axes]
    assert colours[1] == style.WRONG[False]
    assert style.WRONG[False] not in colours[:1] + colours[2:]
    np.testing.assert_array_equal(
        figure.axes[1].images[0].get_array(), pixels[1].reshape(28, 28)
    )


def test_a_notebook_is_given_a_picture_of_a_figure():
    figure = pictures.single(np.zeros(784))
    png = Image.open(BytesIO(figure._repr_png_()))
    assert png.format == "PNG"
    assert png.size == tuple(figure.get_size_inches() * figure.dpi)


def test_only_errors_are_drawn_as_errors_with_their_own_numbers():
    pixels = np.zeros((30, 784))
    true = np.zeros(30, int)
    predicted = np.where(np.arange(30) % 7 == 3, 5, 0)
    figure = pictures.errors(pixels, true, predicted)
    shown = [text for text in texts(figure) if text]
    assert [text.split("\n")[0] for text in shown] == [
        f"no. {number}" for number in (3, 10, 17, 24)
    ]
    assert figure.get_suptitle() == "4 of 30 images are wrong; the first 4"
    none = pictures.errors(pixels, true, true)
    assert none.get_suptitle() == "0 of 30 images are wrong: there is nothing to draw"


def test_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="2 images, 3 true classes"):
        pictures.grid(np.zeros((2, 784)), [1, 2, 3])
    with pytest.raises(UserError, match="at least one"):
        pictures.grid(np.zeros((0, 784)), [])


def test_the_confusion_matrix_counts_rows_by_true_class():
    counts = pictures.confusion_matrix([3, 3, 3, 8], [3, 5, 5, 8])
    assert counts[3, 5] == 2
    assert counts[3, 3] == counts[8, 8] == 1
    assert counts.sum() == 4
    line = pictures.confusion_text(counts).splitlines()[4].split()
    assert line == ["3", "0", "0", "0", "1", "0", "2", "0", "0", "0", "0"]
    figure = pictures.confusion_figure(counts)
    assert [text.get_text() for text in figure.axes[0].texts][35] == "2"
    assert figure.get_suptitle() == "2 of 4 images right"


def test_filters_have_one_scale_with_zero_in_its_middle(hvass):
    figure = pictures.filters(hvass, "conv2", channel=3)
    (image,) = figure.axes[0].images
    low, high = image.get_clim()
    assert low == -high
    weight = hvass.conv2.weight[:, 3].detach().numpy()
    assert high == pytest.approx(hvass.conv2.weight.abs().max().item())
    shown = image.get_array().filled(np.nan)
    assert shown.shape == (35, 35)  # six rows of 5 with gaps of 1
    np.testing.assert_array_equal(shown[6:11, 12:17], weight[8])
    assert np.isnan(shown[5]).all()
    with pytest.raises(UserError, match=r"no convolution is called 'fc1'.*conv1, conv2"):
        pictures.filters(hvass, "fc1")
    with pytest.raises(UserError, match="conv1: no channel 1; there are 0 to 0"):
        pictures.filters(hvass, "conv1", channel=1)


def test_the_outputs_of_layers_are_those_of_evaluation_in_order(hvass):
    pixels = torch.rand(784)
    found = images_of_layers(hvass, pixels)
    assert list(found) == ["conv1", "pool1", "conv2", "pool2"]
    assert found["pool2"].shape == (36, 7, 7)
    expected = hvass.conv1(pixels.reshape(1, 1, 28, 28))[0].detach().numpy()
    np.testing.assert_allclose(found["conv1"], expected, rtol=1e-6)
    assert hvass.training
    figure = pictures.outputs(hvass, pixels, "pool1")
    assert figure.get_suptitle() == "pool1: 16 channels of 14x14"


def test_what_a_layer_changes_in_place_is_drawn_as_it_was_before(tmp_path):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(1, 10, 28), nn.ReLU(inplace=True)
            self.wide = nn.Conv2d(1, 2, 1)

        def forward(self, pixels):
            wide = self.wide(pixels.neg_().reshape(-1, 1, 28, 28))
            return self.relu(self.conv(self.relu(wide)[:, :1])).flatten(1)

    network, pixels = InPlace(), torch.rand(3, 784)
    kept = pixels.clone()
    weight, bias = network.wide.weight.detach(), network.wide.bias.detach()
    expected = -kept[0].reshape(28, 28) * weight.reshape(2, 1, 1) + bias.reshape(2, 1, 1)
    found = images_of_layers(network, pixels[0])["wide"]
    np.testing.assert_allclose(found, expected.reshape(2, 28, 28).numpy(), atol=1e-6)
    Album(network, pixels, torch.zeros(3).long(), tmp_path).predicted()
    assert torch.equal(pixels, kept)


def test_curves_show_what_was_logged_and_what_was_published():
    logged = {"train/loss": [(1, 2.0), (2, 1.0)], "test/accuracy": [(2, 0.5)]}
    figure = pictures.curves(logged, published=networks.get("hvass").published)
    above, below = figure.axes
    assert list(above.lines[0].get_ydata()) == [2.0, 1.0]
    labels = below.get_legend_handles_labels()[1]
    assert labels == ["test", "published: about 99 % after 10,000 iterations"]


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_on_its_ground(dark):
    def brightness(colour: str) -> float:
        return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))

    behind = brightness(style.ground(dark=dark))
    for colour in (style.ink(dark=dark), style.WRONG[dark], *style.LINES[dark]):
        assert abs(brightness(colour) - behind) > 0.35


@pytest.mark.slow
def test_fit_draws_at_each_stage_and_plot_draws_a_checkpoint(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            f"fit --config hvass {QUIET} --trainer.max_steps 100 --pictures "
            "--trainer.log_every_n_steps 20".split()
        )
        == 0
    )
    assert "true \\ predicted" in capsys.readouterr().out
    drawn = {path.name for path in tmp_path.glob("lightning_logs/version_0/pictures/*")}
    assert {"images.png", "errors-step=100.png", "confusion.png", "curves.png"} <= drawn
    assert "filters-conv2-channel=0.png" in drawn
    assert "outputs-pool2-image=13.png" in drawn
    words = ["--out", "drawn", "--format", "svg", "--dark", "--image", "4"]
    assert main(["plot", "last", *words]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("last is lightning_logs/version_0/checkpoints/")
    again = {path.name for path in (tmp_path / "drawn").iterdir()}
    expected = {"answers.svg", "errors.svg", "confusion.svg", "confusion.txt"}
    assert expected | {"image=4.svg", "curves.svg"} <= again
    assert all((tmp_path / "drawn" / name).stat().st_size for name in again)


def test_help_of_plot_needs_no_torch():
    program = (
        "import sys; from mnistport.cli import main\ntry: main(['plot', '--help'])\n"
    )
    program += "except SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
