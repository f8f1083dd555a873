"""`Classifier` and `MnistData` in a person's own Python: they work or say what to do."""

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console
from rich.file_proxy import FileProxy
from torch.utils.data import DataLoader, TensorDataset

import mnistport
from mnistport import Classifier, MnistData, networks
from mnistport.errors import UserError
from mnistport.training import tutorial_lines
from mnistport.training.refusals import refuse_rank_without_images


def trainer_in(folder, **flags) -> pl.Trainer:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_steps": 3,
    }
    return pl.Trainer(default_root_dir=folder, **(quiet | flags))


def own_loader() -> DataLoader:
    labels = torch.arange(20) % 10
    return DataLoader(TensorDataset(torch.rand(20, 784), labels), 5)


class OwnData(pl.LightningDataModule):
    def train_dataloader(self):
        return own_loader()

    test_dataloader = train_dataloader


# Importing ------------------------------------------------------------------------------


def test_both_classes_are_imported_from_the_package():
    assert Classifier.__module__ == "mnistport.training.module"
    assert MnistData.__module__ == "mnistport.training.datamodule"
    with pytest.raises(AttributeError, match="'mnistport' has no attribute 'Clasifier'"):
        mnistport.Clasifier  # noqa: B018


def test_the_package_alone_imports_no_torch():
    code = (
        "import sys, mnistport; print({'torch', 'pytorch_lightning'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# The data module ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "val", "test", "predict"])
def test_data_that_is_not_read_yet_says_so(part):
    with pytest.raises(UserError, match=r"call setup\(\) first"):
        getattr(MnistData("softmax", source="digits"), f"{part}_dataloader")()


def test_without_a_trainer_there_are_plain_batches_of_the_recipe():
    data = MnistData("softmax", source="digits", seed=3)
    data.setup()
    loader = data.train_dataloader()
    assert len(loader) == 13
    pixels, labels = data.train
    for epoch in range(2):
        for step, batch in enumerate(loader, 13 * epoch):
            rows = torch.from_numpy(data.stream.indices(step, step + 1)[0])
            assert torch.equal(batch[0], pixels[rows])
            assert torch.equal(batch[1], labels[rows])
        assert step == 13 * epoch + 12


def test_a_module_of_ones_own_trains_on_the_same_batches(train, tmp_path):
    class Mine(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = networks.get("softmax").module()

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            assert self.net(batch[0]).shape == (len(batch[1]), 10)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.5)

    module = Mine()
    trainer = trainer_in(tmp_path, max_steps=20)
    trainer.fit(module, datamodule=MnistData("softmax", source="digits"))
    torch.testing.assert_close(
        module.net.fc.weight.detach(), train(max_steps=20).weights["fc.weight"]
    )


@pytest.mark.parametrize("network", ["hvass", "softmax"])
@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_another_networks_data_is_refused(network, command, tmp_path):
    data = MnistData(network, source="digits")
    with pytest.raises(
        UserError, match=rf"'deep', but MnistData .* '{network}'; use MnistData\('deep'\)"
    ):
        getattr(trainer_in(tmp_path), command)(Classifier("deep"), datamodule=data)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"train_dataloaders": own_loader()}, "no data module"),
        ({"datamodule": OwnData()}, "the data module OwnData"),
    ],
)
def test_training_on_ones_own_data_is_refused_with_what_to_use(given, named, tmp_path):
    with pytest.raises(
        UserError, match=rf"{named}; use trainer.fit\(module, datamodule=MnistData\("
    ) as error:
        trainer_in(tmp_path).fit(Classifier("softmax"), **given)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given",
    [{"dataloaders": own_loader()}, {"datamodule": OwnData()}],
    ids=["loader", "data module"],
)
def test_ones_own_images_can_be_scored(given, tmp_path, capsys):
    module = Classifier("softmax")
    trainer_in(tmp_path).test(module, **given, verbose=False)
    assert module.last_score.total == 20
    assert "[data: of your own]" in capsys.readouterr().out


def test_a_loader_is_not_taken_for_the_data_module_of_an_earlier_call(tmp_path, capsys):
    """Lightning's trainer keeps the data module of its last call that had one."""
    module = Classifier("softmax")
    trainer = trainer_in(tmp_path, max_steps=1)
    trainer.fit(module, datamodule=MnistData("softmax", source="digits"))
    trainer.fit_loop.epoch_loop.max_steps = 2
    with pytest.raises(UserError, match="the trainer got no data module; use trainer"):
        trainer.fit(module, own_loader())
    capsys.readouterr()
    trainer.test(module, own_loader(), verbose=False)
    assert module.last_score.total == 20
    assert "[data: of your own]" in capsys.readouterr().out
    other = Classifier("deep")
    assert len(torch.cat(trainer.predict(other, own_loader()))) == 20


def test_ones_own_images_can_be_classified(tmp_path):
    classes = trainer_in(tmp_path).predict(Classifier("softmax"), own_loader())
    assert len(torch.cat(classes)) == 20


@pytest.mark.parametrize(("rank", "error"), [(0, UserError), (1, SystemExit)])
def test_a_rank_without_images_is_refused_on_every_rank_and_said_by_one(
    rank, error, tmp_path, monkeypatch
):
    monkeypatch.setattr(pl.Trainer, "world_size", 4)
    monkeypatch.setattr(pl.Trainer, "is_global_zero", rank == 0)
    data = MnistData("softmax", source="digits", batch_size=3)
    with pytest.raises(error) as raised:
        trainer_in(tmp_path).fit(Classifier("softmax"), datamodule=data)
    if rank == 0:
        assert "batch_size 3 is less than the 4 devices" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_rank_may_have_one_image():
    refuse_rank_without_images(SimpleNamespace(world_size=3), 3)


# The module -----------------------------------------------------------------------------


def test_scoring_leaves_a_frozen_layer_frozen():
    module = Classifier("three_minute_adam")
    module.net.train()
    module.net.dropout.eval()
    before = {name: layer.training for name, layer in module.net.named_modules()}
    module.score(torch.rand(4, 784), torch.arange(4))
    assert {name: layer.training for name, layer in module.net.named_modules()} == before
    assert not module.net.dropout.training


# Notebooks ------------------------------------------------------------------------------


class NotebookConsole(Console):
    """Flushes standard output with everything it shows, as a notebook's does."""

    def print(self, *objects, **options):
        sys.stdout.flush()
        super().print(*objects, **options)


def test_a_text_of_two_lines_is_printed_in_a_notebook_under_rich(monkeypatch):
    shown = io.StringIO()
    console = NotebookConsole(file=shown)
    monkeypatch.setattr(sys, "stdout", FileProxy(console, io.StringIO()))
    tutorial_lines._print(SimpleNamespace(is_global_zero=True), "first\nsecond")
    assert shown.getvalue().split() == ["first", "second"]


@pytest.mark.filterwarnings("ignore:install .ipywidgets.")
def test_hvass_trains_in_a_notebook_under_rich(train, monkeypatch):
    shown = []

    def display(segments, text):
        sys.stdout.flush()
        shown.append(text)

    monkeypatch.setattr("rich.jupyter.display", display)
    console = rich.get_console()  # the bar replaces what is in it, for the whole process
    monkeypatch.setattr(console, "__dict__", dict(vars(console)))
    bar = RichProgressBar(console_kwargs={"force_jupyter": True})
    options = {"options": {"fc_size": 4}}
    train(
        "hvass", max_steps=2, batch_size=4, callbacks=(bar,), module=options,
        enable_progress_bar=True,
    )  # fmt: skip
    printed = "".join(shown)
    assert "Time usage: 0:00:0" in printed
    assert "Accuracy on Test-Set:" in printed
