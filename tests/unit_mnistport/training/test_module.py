"""The one LightningModule, used from Python.

What it takes, refuses, scores, saves and loads.
"""

import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from mnistport import networks
from mnistport.errors import UserError
from mnistport.layers import uniform
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier, Score
from mnistport.training.tutorial_lines import TutorialLines


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_every_network_trains_through_the_trainer(train, name):
    run = train(name, max_steps=2, batch_size=4)
    assert run.trainer.global_step == 2
    assert all(math.isfinite(loss) for loss in run.record.losses)
    assert run.data.batch_size == 4


def test_training_takes_the_steps_of_the_recipe(train):
    """Three steps of three_minute_layers, written out.

    The images, the loss and the optimizer are the same.
    """
    run = train("three_minute_layers", max_steps=3, batch_size=5, precision="64-true")
    recipe = networks.get("three_minute_layers").recipe
    torch.manual_seed(0)
    net = networks.get("three_minute_layers").module().double()
    optimizer = recipe.optimizer(net.parameters())
    pixels, labels = run.data.train
    for index in torch.from_numpy(recipe.stream(len(labels), 5, 0).indices(0, 3)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(pixels[index].double()), labels[index])
        loss.backward()
        optimizer.step()
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(run.weights[name], weight, rtol=1e-10, atol=1e-12)
    assert run.record.losses[-1] == pytest.approx(loss.item(), rel=1e-12)


def test_another_seed_means_other_batches_and_other_dropped_units(train):
    made = {"network": "three_minute_adam", "batch_size": 5, "max_steps": 2}
    one, other = train(**made, seed=1), train(**made, seed=2)
    assert not torch.equal(one.record.batches[0], other.record.batches[0])
    assert train(**made, seed=1).record.losses == one.record.losses


@pytest.mark.parametrize(
    ("options", "fits"),
    [({"fc_size": 8}, (8, 1764)), ({"extra_convolution": True}, (128, 576))],
)
def test_options_reach_the_network(options, fits):
    assert Classifier("hvass", options=options).net.fc1.weight.shape == fits


def test_an_unknown_option_is_answered_with_the_known_ones():
    with pytest.raises(
        UserError,
        match=r"'hvass' has no option 'fc_sise'; it has filter_size1, .*last_relu",
    ):
        Classifier("hvass", options={"fc_sise": 8})
    with pytest.raises(UserError, match="'softmax' has no option 'fc_size'; it has none"):
        Classifier("softmax", options={"fc_size": 8})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"pooling": "middle"},
            "pooling 'middle': expected one of max, average, none, stride",
        ),
        ({"fc_size": "many"}, "fc_size 'many': expected a whole number"),
        ({"keep_prob": -1.0}, "keep_prob is the fraction kept"),
        ({"keep_prob": 2}, "keep_prob is the fraction kept"),
        ({"keep_prob": math.nan}, "keep_prob is the fraction kept"),
        ({"extra_dense": "false"}, "extra_dense 'false': expected true or false"),
    ],
)
def test_an_option_that_cannot_have_that_value_is_refused_in_one_line(options, reason):
    with pytest.raises(
        UserError, match=f"'hvass' cannot be made with the options .*{reason}"
    ):
        Classifier("hvass", options=options)


def test_a_network_that_fails_without_options_shows_its_own_error(monkeypatch):
    def broken() -> nn.Module:
        raise RuntimeError("in their own code")

    monkeypatch.setitem(
        vars(networks),
        "get",
        lambda name: type("N", (), {"name": "theirs", "module": broken}),
    )
    with pytest.raises(RuntimeError, match="in their own code"):
        Classifier("theirs")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"learning_rate": -1.0}, "learning_rate -1.0: expected a finite number"),
        ({"learning_rate": 0}, "learning_rate 0: expected a finite number"),
        ({"learning_rate": math.nan}, "learning_rate nan: expected a finite number"),
        ({"learning_rate": math.inf}, "learning_rate inf: expected a finite number"),
        ({"learning_rate": 1e39}, r"learning_rate 1e\+39: expected a finite number"),
        ({"learning_rate": "0.1"}, "learning_rate '0.1': expected a finite number"),
        ({"learning_rate": True}, "learning_rate True: expected a finite number"),
        ({"options": 5}, "options 5: expected a mapping"),
        ({"options": []}, r"options \[\]: expected a mapping"),
        ({"options": "fc_size"}, "options 'fc_size': expected a mapping"),
        ({"steps_per_execution": 2.5}, "steps_per_execution 2.5: expected at least 1"),
        ({"steps_per_execution": "x"}, "steps_per_execution 'x': expected at least 1"),
        ({"engine": "fast"}, "engine 'fast': expected one of auto, eager, graph"),
        ({"tf32": "false"}, "tf32 'false': expected true or false"),
        ({"seed": -1}, "seed -1: expected a whole number of at least 0"),
        ({"seed": "x"}, "seed 'x': expected a whole number"),
    ],
    ids=str,
)
def test_a_value_that_an_argument_cannot_have_is_refused(given, named):
    with pytest.raises(UserError, match=named):
        Classifier("softmax", **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"eval_batch_size": 2.5}, "eval_batch_size 2.5: expected at least 1 image"),
        ({"eval_batch_size": "x"}, "eval_batch_size 'x': expected at least 1 image"),
        ({"batch_size": 2.5}, "batch size 2.5: expected a whole number"),
        ({"batch_size": True}, "batch size True: expected a whole number"),
        ({"seed": 0.5}, "seed 0.5: expected a whole number"),
        ({"source": "x"}, "'x'"),
    ],
    ids=str,
)
def test_a_value_that_the_data_cannot_have_is_refused(given, named):
    with pytest.raises(UserError, match=named):
        MnistData("softmax", **{"source": "digits", **given}).prepare_data()


def test_zero_steps_per_execution_are_refused():
    with pytest.raises(UserError, match="steps_per_execution 0: expected at least 1"):
        Classifier("softmax", steps_per_execution=0)


def test_a_learning_rate_takes_the_place_of_the_recipes(train):
    assert train(max_steps=0).slots["lr"] == 0.5
    assert train(max_steps=1, module={"learning_rate": 0.125}).slots["lr"] == 0.125


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_a_score_counts_images_whatever_the_size_of_the_parts(batch_size):
    torch.manual_seed(0)
    module = Classifier("three_minute_adam")
    pixels, labels = torch.rand(50, 784), torch.arange(50) % 10
    module.net.train()
    score = module.score(pixels, labels, batch_size)
    assert module.net.training, "left as it was found"
    module.net.eval()
    with torch.no_grad():
        assert score == Score(int((module.net(pixels).argmax(1) == labels).sum()), 50)


def test_a_network_may_change_its_input_in_place():
    """It changes no image that is scored again later."""
    module = Classifier("softmax")
    kept, forward = torch.rand(20, 784), module.net.forward
    pixels = kept.clone()
    module.net.forward = lambda image: forward(image.zero_())
    module.score(pixels, torch.arange(20) % 10)
    assert torch.equal(pixels, kept)


def test_accuracy_is_the_exact_quotient():
    assert Score(9_214, 10_000).accuracy == 0.9214


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_evaluation_counts_every_image_once_and_logs_accuracy_and_loss(train, stage):
    run = train(max_steps=5, data={"eval_batch_size": 37}, limit_val_batches=1.0)
    (metrics,) = getattr(run.trainer, stage)(
        run.module, datamodule=run.data, verbose=False
    )
    pixels, labels = run.data.validation if stage == "validate" else run.data.test
    with torch.no_grad():
        logits = run.module.net.eval()(pixels)
    prefix = "val" if stage == "validate" else "test"
    assert run.module.last_score == Score(
        int((logits.argmax(1) == labels).sum()), len(labels)
    )
    assert metrics[f"{prefix}/accuracy"] == pytest.approx(
        run.module.last_score.accuracy, rel=1e-6
    )
    expected = nn.functional.cross_entropy(logits.double(), labels).item()
    assert metrics[f"{prefix}/loss"] == pytest.approx(expected, rel=1e-5)


def test_prediction_gives_the_classes_in_file_order(train):
    run = train(max_steps=5, data={"eval_batch_size": 100})
    classes = torch.cat(run.trainer.predict(run.module, datamodule=run.data))
    with torch.no_grad():
        assert torch.equal(classes, run.module.net.eval()(run.data.test[0]).argmax(1))
    assert classes.dtype == torch.int64


def test_after_a_run_dropouts_draw_for_themselves_and_the_images_are_freed(train):
    run = train("three_minute_adam", max_steps=1, batch_size=4)
    assert run.module.net.dropout.draw is uniform
    assert not hasattr(run.module, "pixels")


def test_a_trainer_can_fit_twice_and_continues(train):
    run = train(max_steps=5, limit_train_batches=4)
    run.trainer.fit_loop.epoch_loop.max_steps = 9
    run.trainer.fit(run.module, datamodule=run.data)
    assert run.trainer.global_step == 9
    assert max(last - first for first, last in run.record.chunks) <= 4
    assert torch.equal(
        run.module.net.fc.weight,
        train(max_steps=9, limit_train_batches=4).weights["fc.weight"],
    )


def test_the_callback_that_prints_lines_is_added_once():
    module = Classifier("softmax")
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module._trainer = trainer
    (lines,) = module.configure_callbacks()
    trainer.callbacks.append(lines)
    assert module.configure_callbacks() == []
    assert isinstance(lines, TutorialLines)


# Checkpoints ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(train, tmp_path_factory):
    """Three steps of a small hvass."""
    path = tmp_path_factory.mktemp("saved") / "hvass.ckpt"
    run = train("hvass", max_steps=3, batch_size=5, module={"options": {"fc_size": 4}})
    run.trainer.save_checkpoint(path)
    return path


FC4 = {"module": {"options": {"fc_size": 4}}}


def test_a_checkpoint_says_which_run_its_weights_belong_to(checkpoint):
    said = torch.load(checkpoint, weights_only=True)["mnistport"]
    expected = {
        "network": "hvass",
        "seed_everything": 0,
        "data.batch_size": 5,
        "data.source": "digits",
    }
    assert said == expected


def test_a_checkpoint_loads_in_python_without_further_arguments(checkpoint):
    module = Classifier.load_from_checkpoint(checkpoint)
    assert module.network.name == "hvass"
    assert module.net.fc1.weight.shape == (4, 1764)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"network": "softmax"},
            "holds the network 'hvass', the model is 'softmax'; use --config hvass",
        ),
        (
            {"seed": 1},
            r"run had --seed_everything 0 \(now 1\); continue it with the same",
        ),
        ({"batch_size": 6}, r"run had --data.batch_size 5 \(now 6\)"),
        (
            {"module": {"options": {"fc_size": 5}}},
            r"other --model.options: its net.fc1.weight has shape \[4, 1764\]",
        ),
        (
            {"module": {"options": {"fc_size": 4, "extra_dense": True}}},
            "its net.fc_extra.0.weight is missing",
        ),
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_fit_is_refused(train, checkpoint, changed, message):
    if "network" in changed:
        changed = {**changed, "module": {}}
    flags = {
        "network": "hvass",
        "batch_size": 5,
        **FC4,
        "max_steps": 4,
        "ckpt_path": checkpoint,
        **changed,
    }
    with pytest.raises(UserError, match=message):
        train(**flags)


def test_a_checkpoint_of_another_data_set_is_refused(train, checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    saved["mnistport"]["data.source"] = "mnist"
    torch.save(saved, tmp_path / "mnist.ckpt")
    with pytest.raises(UserError, match=r"run had --data.source mnist \(now digits\)"):
        train(
            "hvass", batch_size=5, **FC4, max_steps=4, ckpt_path=tmp_path / "mnist.ckpt"
        )


def test_a_checkpoint_of_another_program_is_refused(train, checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    del saved["mnistport"]
    torch.save(saved, tmp_path / "theirs.ckpt")
    with pytest.raises(UserError, match="not written by mnistport"):
        train(
            "hvass", batch_size=5, **FC4, max_steps=4, ckpt_path=tmp_path / "theirs.ckpt"
        )


def test_a_checkpoint_is_tested_with_any_seed_and_batch_size(checkpoint, train):
    module = Classifier("hvass", options={"fc_size": 4}, seed=9)
    data = MnistData("hvass", source="digits", batch_size=77, seed=9)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.test(module, datamodule=data, ckpt_path=checkpoint, verbose=False)
    assert module.last_score.total == 297
