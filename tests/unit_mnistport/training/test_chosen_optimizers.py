"""`--model.optimizer`: another of TF1's optimizers in place of the recipe's."""

import pytest
import torch
import yaml

from mnistport.cli import main
from mnistport.errors import UserError
from mnistport.optimizers.choosing import BY_NAME
from mnistport.training.module import Classifier

FIT = ["fit", "--config", "softmax", "--data.source", "digits"]
FIT += ["--trainer.accelerator", "cpu", "--trainer.max_steps"]
RATES = {"rmsprop": 0.01, "gradient_descent": 0.5, "momentum": 0.05, "adagrad": 0.05}


def module(name, **options):
    return {"optimizer": name, "learning_rate": RATES.get(name), **options}


@pytest.mark.parametrize("name", BY_NAME)
def test_both_engines_take_the_same_steps(train, name):
    flags = {"batch_size": 5, "max_steps": 9, "precision": "64-true"}
    graph = train(**flags, module=module(name))
    eager = train(**flags, module=module(name, engine="eager"))
    assert type(graph.trainer.optimizers[0]) is BY_NAME[name]
    assert graph.module.engine_remark == ""
    assert graph.record.losses == pytest.approx(eager.record.losses, rel=1e-12)
    for key, weight in eager.weights.items():
        assert (graph.weights[key] - weight).abs().max() < 1e-12


@pytest.mark.parametrize("name", BY_NAME)
def test_a_run_goes_on_bit_for_bit(train, tmp_path, name):
    whole = train(max_steps=12, module=module(name))
    first = train(max_steps=7, module=module(name))
    first.trainer.save_checkpoint(tmp_path / "first.ckpt")
    rest = train(
        max_steps=12, module=module(name), ckpt_path=str(tmp_path / "first.ckpt")
    )
    for key, value in {**whole.weights, **whole.slots}.items():
        now = {**rest.weights, **rest.slots}[key]
        assert torch.equal(torch.as_tensor(now), torch.as_tensor(value)), key


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (module(None), module("adam"), "null, the recipe's (now adam)"),
        (module("adam"), module(None), "adam (now null, the recipe's)"),
        (
            module("momentum"),
            module("momentum", optimizer_options={"use_nesterov": True}),
            "null, the recipe's (now {'use_nesterov': True})",
        ),
    ],
)
def test_a_run_does_not_go_on_with_another_choice(train, tmp_path, before, after, said):
    path = tmp_path / "first.ckpt"
    train("three_minute_adam", max_steps=1, batch_size=2, module=before)
    first = train("three_minute_adam", max_steps=1, batch_size=2, module=before)
    first.trainer.save_checkpoint(path)
    flags = {"max_steps": 2, "batch_size": 2, "ckpt_path": str(path)}
    with pytest.raises(UserError) as refused:
        train("three_minute_adam", module=after, **flags)
    assert said in str(refused.value)


def test_without_a_rate_it_is_tf1s_default_or_refused():
    rates = {}
    for name in BY_NAME:
        if name in RATES:
            with pytest.raises(UserError, match=f"{name}' needs a learning rate, for wh"):
                Classifier("softmax", optimizer=name)
        else:
            made = Classifier("softmax", optimizer=name).configure_optimizers()
            rates[name] = made.param_groups[0]["lr"]
    assert rates == {name: float(torch.tensor(0.001)) for name in ("adam", "adadelta")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"optimizer": "sgd"}, "optimizer 'sgd': expected one of adam, rmsprop, grad"),
        ({"optimizer": 3}, "optimizer 3: expected one of adam"),
        ({"optimizer_options": [1]}, "optimizer_options [1]: expected a mapping"),
        (
            {"optimizer": "adam", "optimizer_options": {"rho": 1}},
            "the optimizer 'adam' has no option 'rho'; it has beta1, beta2, epsilon",
        ),
        (
            {"optimizer_options": {"momentum": 0.9}},
            "the recipe's optimizer has no option 'momentum'; it has none beside",
        ),
        (
            {"optimizer": "adam", "optimizer_options": {"learning_rate": 1.0}},
            "has no option 'learning_rate'",
        ),
        (
            {**module("momentum"), "optimizer_options": {"use_nesterov": "false"}},
            "use_nesterov 'false': expected true or false",
        ),
        (
            {"optimizer": "adam", "optimizer_options": {"beta1": float("nan")}},
            "beta1 nan: expected a finite number",
        ),
        (
            {**module("adagrad"), "optimizer_options": {"initial_accumulator_value": 0}},
            "initial_accumulator_value 0.0: expected a finite number greater than 0",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments, said):
    with pytest.raises(UserError) as refused:
        Classifier("softmax", **arguments)
    assert said in str(refused.value)


def test_the_recipes_optimizer_can_be_told_something_too():
    made = Classifier("deep", optimizer_options={"epsilon": 0.5}).configure_optimizers()
    group = made.param_groups[0]
    assert (group["lr"], group["epsilon"]) == (float(torch.tensor(1e-4)), 0.5)


def test_the_command_trains_says_and_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["--model.optimizer", "momentum", "--model.learning_rate", "0.05"]
    words += ["--model.optimizer_options.use_nesterov", "true"]
    assert main([*FIT, "6", *words]) == 0
    (first,) = tmp_path.glob("lightning_logs/**/*.ckpt")
    said = torch.load(first, weights_only=True)["hyper_parameters"]
    assert said["optimizer"] == "momentum"
    assert said["optimizer_options"] == {"use_nesterov": True}
    assert main(["fit", "--ckpt_path", str(first), "--trainer.max_steps", "9"]) == 0
    capfd.readouterr()
    assert main([*FIT, "9", "--ckpt_path", str(first), "--model.optimizer", "adam"]) == 2
    assert "adam' has no option 'use_nesterov'" in capfd.readouterr().err
    assert main(["test", "--ckpt_path", str(first), "--data.source", "digits"]) == 0
    assert main([*FIT, "3", "--model.optimizer", "rmsprop"]) == 2
    assert "give --model.learning_rate" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "rate"), [("adam", 0.001), ("momentum", None)])
def test_print_config_shows_the_rate_of_the_chosen_optimizer(name, rate, capsys):
    main([*FIT, "3", "--model.optimizer", name, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["optimizer"] == name
    assert printed["model"]["learning_rate"] == rate
