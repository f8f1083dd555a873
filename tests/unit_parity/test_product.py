"""The check `product` sees what goes wrong between a tutorial and the user's commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mnistport import cli, networks
from mnistport.data import idx
from mnistport.data.batches import NextBatch
from mnistport.draws import KeyedDraws
from mnistport.errors import UserError
from mnistport.optimizers import adam
from mnistport.speed import listing
from mnistport.training import chunks, loader
from mnistport.training.datamodule import MnistData
from mnistport.training.evaluation import Counts
from mnistport.training.loader import Slices
from mnistport.training.module import Classifier
from parity import references
from parity.bench import Bench
from parity.case import Case
from parity.checks.late_steps import late_steps
from parity.checks.printed import every_image
from parity.checks.product import product
from parity.compare import Comparison
from parity.reference import Dtype, Start
from parity.references import mnist_commands, mnist_watcher, recipes
from parity.references.mnist_recipe import scalars

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

Ask = Callable[..., list[Comparison]]


@pytest.fixture(scope="module")
def benches() -> dict[str, Bench]:
    """A bench for each network, whose TF1 side and its answers are shared."""
    return {}


@pytest.fixture
def failing(benches: dict[str, Bench]) -> Callable[..., list[str]]:
    """Asks a network the check, on the digits. Returns the comparisons that fail."""

    def ask(name: str = "softmax", dtype: Dtype = "float64") -> list[str]:
        if name not in benches:
            reference = replace(references.get(name), trained_steps=20)
            data = reference.data(0, source="digits")
            benches[name] = Bench(
                reference=reference, data=data, data_set={"source": "digits"}
            )
        comparisons = product(Case(bench=benches[name], dtype=dtype))
        assert comparisons
        return [one.name for one in comparisons if not one.passed]

    return ask


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["softmax", "hvass"])
def test_nothing_is_found_where_nothing_is_wrong(name: str, dtype: str, failing) -> None:
    assert failing(name, dtype) == []


# What each step computes


def patch_gradients(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], None]
) -> None:
    """Let the list of kernel calls change the gradients that it gives."""
    right = listing._as_backward

    def wrong(calls: Any, state: Any, trained: Any, step: Any) -> Any:
        backward = right(calls, state, trained, step)

        def changed(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            loss = backward(pixels, labels)
            for name in trained:
                change(state[name].grad)
            return loss

        return changed

    monkeypatch.setattr(listing, "_as_backward", wrong)


def test_gradients_that_are_wrong_in_float32_only(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(gradient: torch.Tensor) -> None:
        if gradient.dtype == torch.float32:
            gradient *= 1.01

    patch_gradients(monkeypatch, change)
    assert "d loss / d W in step 1 of fit" in failing("softmax", "float32")
    assert failing("softmax", "float64") == []


def test_pixels_that_are_rounded_in_float32_only(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Classifier.on_fit_start

    def wrong(self: Classifier) -> None:
        right(self)
        if self.pixels.dtype == torch.float32:
            self.pixels = self.pixels.bfloat16().float()

    monkeypatch.setattr(Classifier, "on_fit_start", wrong)
    assert "d loss / d W in step 1 of fit" in failing("softmax", "float32")
    assert failing("softmax", "float64") == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_rate_that_is_one_percent_too_high(
    dtype: str, failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Classifier.configure_optimizers

    def wrong(self: Classifier) -> Any:
        optimizer = right(self)
        optimizer.param_groups[0]["lr"] *= 1.01
        return optimizer

    monkeypatch.setattr(Classifier, "configure_optimizers", wrong)
    names = failing("softmax", dtype)
    assert names[0].startswith("W in step 1 of fit")
    assert not any(name.startswith("d loss") for name in names)


def test_the_third_step_of_a_chunk_that_is_wrong(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def change(gradient: torch.Tensor) -> None:
        calls.append(gradient)
        if len(calls) in (5, 6):  # W and b, in the third step
            gradient *= 1.01

    patch_gradients(monkeypatch, change)
    names = failing()
    assert names and all(" in step 3 of fit" in name for name in names)


def test_a_list_that_holds_the_first_batch_s_labels(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = listing._as_backward

    def wrong(calls: Any, state: Any, trained: Any, step: Any) -> Any:
        backward, first = right(calls, state, trained, step), []

        def frozen(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            first.append(labels)
            return backward(pixels, first[0])

        return frozen

    monkeypatch.setattr(listing, "_as_backward", wrong)
    names = failing()
    assert names[0].startswith(("loss in step 2", "W in step 2"))


@pytest.mark.slow
def test_a_list_that_holds_the_first_step_s_key(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = KeyedDraws.keys

    def wrong(self: KeyedDraws, start: int, length: int) -> torch.Tensor:
        return right(self, start, length)[:1].expand(length, -1)

    monkeypatch.setattr(KeyedDraws, "keys", wrong)
    names = failing("three_minute_adam")
    assert any("in step 2 of fit" in name for name in names)


@pytest.mark.slow
def test_initial_weights_that_the_module_halves(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = networks.make_module

    def wrong(*args: Any) -> torch.nn.Module:
        module = right(*args)
        with torch.no_grad():
            for weight in module.parameters():
                weight /= 2
        return module

    monkeypatch.setattr(networks, "make_module", wrong)
    names = failing("hvass")
    assert "weights_conv1, as fit begins: deviation" in names
    assert "biases_conv1, as fit begins: constant" in names


def test_an_engine_that_is_not_the_default(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistport.speed.engine_for", lambda step, longest: "no time")
    assert failing() == [
        "steps by the engine 'graph', and others by 'eager': "
        "engine eager, not graph: no time"
    ]


# Which images are in each step


class NoCarryOver(NextBatch):
    """Drops the rest of an epoch."""

    def _fill(self, row: np.ndarray, position: int) -> None:
        used = self.steps_per_epoch * self.batch_size
        for place in range(len(row)):
            epoch, offset = divmod(position + place, used)
            row[place] = self._chunk(epoch)[offset]


def test_the_rest_of_an_epoch_that_is_lost(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NextBatch, "_fill", NoCarryOver._fill)
    names = failing()
    assert names[0] == "loss in step 5 of fit, the first of an epoch"


def shifted(monkeypatch: pytest.MonkeyPatch, shift: Callable[[int, int], int]) -> None:
    """Let `fit` take other steps. `shift`: (step, steps in an epoch) -> step."""
    right = chunks.chunks

    def wrong(plan: Any, stream: Any, start: int, epoch: int, **kwargs: Any) -> Iterator:
        for chunk in right(plan, stream, start, epoch, **kwargs):
            steps = range(chunk.start, chunk.stop)
            places = [shift(step, plan.steps_per_epoch) for step in steps]
            index = np.concatenate([stream.indices(at, at + 1) for at in places])
            yield chunk._replace(index=torch.from_numpy(index))

    monkeypatch.setattr(loader, "chunks", wrong)


def test_the_last_step_of_an_epoch_that_is_dropped(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted(monkeypatch, lambda step, epoch: step + step // (epoch - 1))
    assert failing()[0].startswith("loss in step 4 of fit")


def test_the_first_step_of_later_epochs_that_is_skipped(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted(monkeypatch, lambda step, epoch: step + step // epoch)
    assert failing()[0].startswith("loss in step 5 of fit")


@pytest.mark.parametrize("reader", ["read_labels", "read_images"])
def test_a_reader_that_is_off_by_one(
    reader: str, failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(idx, reader)
    monkeypatch.setattr(idx, reader, lambda path: np.roll(right(path), 1))
    assert "W in step 1 of fit" in failing()


# What is printed


TEST, PREDICT = "accuracy that test prints, on ", "classes that predict prints, "


def begins(names: list[str], text: str) -> bool:
    return any(name.startswith(text) for name in names)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_test_set_that_is_another_part(
    part: str, failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = MnistData.setup

    def wrong(self: MnistData, stage: str = "fit") -> None:
        right(self, stage)
        size = len(self.test[1])
        images, labels = getattr(self, part)
        places = torch.arange(size) % len(labels)
        self.test = images[places], labels[places]

    monkeypatch.setattr(MnistData, "setup", wrong)
    names = failing()
    assert begins(names, TEST)
    assert begins(names, PREDICT)
    assert not begins(names, "W in step")


def test_dropout_that_acts_in_the_test(failing, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Classifier._count

    def wrong(self: Classifier, *args: Any) -> None:
        self.train()
        right(self, *args)

    monkeypatch.setattr(Classifier, "test_step", wrong)
    assert begins(failing("three_minute_adam"), TEST)


def test_one_right_answer_too_many(failing, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Counts.__init__

    def wrong(self: Counts, device: Any) -> None:
        right(self, device)
        self.images[0] += 1

    monkeypatch.setattr(Counts, "__init__", wrong)
    for dtype in ("float64", "float32"):
        names = failing("softmax", dtype)
        assert begins(names, "accuracy that test prints, and that of the classes")
        assert begins(names, "accuracy printed at the end of fit")
        assert not begins(names, PREDICT)


def test_the_least_likely_class(failing, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        return self(batch[0]).argmin(1)

    monkeypatch.setattr(Classifier, "predict_step", wrong)
    names = failing()
    assert begins(names, PREDICT)
    assert not begins(names, TEST)


def test_images_behind_the_last_whole_batch_that_are_dropped(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Slices) -> Iterator[Any]:
        for start in range(0, len(self.labels) - self.batch_size + 1, self.batch_size):
            part = slice(start, start + self.batch_size)
            yield self.pixels[part], self.labels[part]

    monkeypatch.setattr(Slices, "__iter__", wrong)
    # The digits are fewer than are scored at once: let none of the two sets be empty.
    right = Slices.__init__

    def scores_64(self: Slices, pixels: Any, labels: Any, size: int, *ranks: int) -> None:
        right(self, pixels, labels, min(size, 64), *ranks)

    monkeypatch.setattr(Slices, "__init__", scores_64)
    names = failing()
    assert begins(names, PREDICT)
    assert begins(names, "accuracy printed at the end of fit")


# The parts of the check


def test_all_test_images_can_be_asked_in_float64(
    failing, benches: dict[str, Bench]
) -> None:
    failing()
    comparisons = every_image(Case(bench=benches["softmax"], dtype="float64"))
    assert [one.passed for one in comparisons] == [True] * 3


@pytest.mark.parametrize(
    ("text", "accuracy"),
    [
        ("test accuracy 0.9194", 0.9194),
        ("0.9194", 0.9194),
        ("정확도: 0.9926  [data: digits]", 0.9926),
        ("Accuracy on Test-Set: 91.9% (273 / 297)", 0.919192),
        ("step 0, training accuracy 0.08\n1  [data: digits]", 1.0),
        ("│  test/accuracy  │  0.93  │\n9.5e-05", 9.5e-05),
        ("nothing", np.nan),
    ],
)
def test_the_printed_accuracy_is_read(text: str, accuracy: float) -> None:
    assert np.array_equal(mnist_commands.printed_accuracy(text), accuracy, equal_nan=True)


def start(network: str = "softmax") -> Start:
    reference = references.get(network)
    initial = Bench(reference=reference, data=reference.data(0, "digits")).initial
    return Start(
        reference=reference,
        weights=initial,
        dtype="float32",
        device="cpu",
        seed=0,
        data_set={"source": "digits"},
    )


def test_states_can_also_be_seen_at_the_ends_of_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CUDA graph cannot be looked into, so there each chunk has one step."""
    commands = references.get("softmax").commands
    assert commands is not None
    each = commands.fit(start(), 3, 1, None)
    monkeypatch.setattr(mnist_watcher, "sees_each_update", lambda device: False)
    at_ends = commands.fit(start(), 3, 1, None)
    assert at_ends.chunks == [1, 1, 1]
    assert [step.number for step in at_ends.steps] == [0, 1, 2]
    for one, other in zip(each.steps, at_ends.steps, strict=True):
        assert one.gradients.keys() == {"W", "b"}
        assert other.gradients == {}
        assert np.array_equal(one.after.weights["W"], other.after.weights["W"])


def test_a_command_that_fails_is_told_with_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = references.get("softmax").commands
    assert commands is not None

    def refuses(words: list[str]) -> int:
        print("mnistport: no room", file=sys.stderr)
        return 2

    monkeypatch.setattr(cli, "main", refuses)
    with pytest.raises(UserError, match=r"`mnistport fit --config softmax .* no room"):
        commands.fit(start(), 1, None, None)

    monkeypatch.setattr(cli, "main", lambda words: 130)
    with pytest.raises(KeyboardInterrupt):
        commands.fit(start(), 1, None, None)

    def breaks(words: list[str]) -> int:
        raise RuntimeError("wrong\nshape")

    monkeypatch.setattr(cli, "main", breaks)
    with pytest.raises(UserError, match=r"failed: RuntimeError: wrong shape$"):
        commands.fit(start(), 1, None, None)


def test_a_command_leaves_the_process_as_it_was() -> None:
    commands = references.get("softmax").commands
    assert commands is not None
    given = start()
    before = dict(os.environ)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    commands.fit(given, 1, None, None)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
    assert dict(os.environ) == before
    # A denormal number is still one.
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) != 0


# Late in the recipe


LATE = ["101", "501", "1,001", "1,500"]


@pytest.fixture(scope="module")
def late() -> Case:
    """A case whose recipe is longer than a thousand steps."""
    reference = replace(references.get("softmax"), trained_steps=20)
    data = replace(reference.data(0, source="digits"), recipe_steps=1_500)
    bench = Bench(reference=reference, data=data, data_set={"source": "digits"})
    return Case(bench=bench, dtype="float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_late_steps_are_taken_from_the_place_that_the_recipe_has_there(
    dtype: Dtype, late: Case
) -> None:
    comparisons = late_steps(replace(late, dtype=dtype))
    assert all(one.passed for one in comparisons)
    losses = [one.name for one in comparisons if one.name.startswith("loss")]
    assert losses == [f"loss in step {step} of fit" for step in LATE]


@pytest.mark.thinned
@pytest.mark.parametrize(
    ("factor", "found"),
    [
        (lambda step: 0.5 if step >= 1_000 else 1.0, LATE[2:]),
        (lambda step: 1.01 if step >= 51 else 1.0, LATE),
        (lambda step: 0.999 ** (step // 100), LATE),
        (lambda step: 0.5 if step >= 1_200 else 1.0, LATE[3:]),
        (lambda step: 2.0 if 60 <= step < 900 else 1.0, LATE[:2]),
    ],
    ids=["halved", "one percent", "slowly less", "halved later", "doubled between"],
)
def test_a_rate_that_changes_on_the_way(
    factor: Callable[[int], float],
    found: list[str],
    late: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Classifier.training_step

    def wrong(self: Classifier, batch: Any, batch_idx: int) -> Any:
        self.trainer.optimizers[0].param_groups[0]["lr"] = 0.5 * factor(batch.start)
        return right(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", wrong)
    failed = [one.name for one in late_steps(late) if not one.passed]
    assert {name.split(" in step ")[1] for name in failed} == {
        f"{step} of fit" for step in found
    }


@pytest.mark.slow
def test_a_bias_correction_that_is_frozen_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """From step 120 on, Adam corrects as in step 120. The recipe has 195 steps here."""
    reference = replace(references.get("three_minute_adam"), trained_steps=20)
    data = reference.data(0, source="digits")
    bench = Bench(reference=reference, data=data, data_set={"source": "digits"})
    right = adam.corrected_rate

    def wrong(group: dict[str, Any], dtype: torch.dtype) -> float:
        least = torch.tensor(0.999**120)
        power = torch.maximum(group["beta2_power"], least)
        return right({**group, "beta2_power": power}, dtype)

    monkeypatch.setattr(adam, "corrected_rate", wrong)
    failed = [
        one.name
        for one in late_steps(Case(bench=bench, dtype="float64"))
        if not one.passed
    ]
    assert {name.split(" in step ")[1] for name in failed} == {"195 of fit"}


def test_powers_are_those_of_tf1() -> None:
    """They are compared with TF1's before a late step is taken."""
    typed = recipes.of("deep")
    after = scalars(typed, 3)
    beta = np.float32(0.9)
    assert after["beta1_power"] == beta * beta * beta * beta
    assert after["beta1_power"].dtype == np.float32
    assert scalars(typed, 20_000)["beta1_power"] == 0
    assert scalars(recipes.of("softmax"), 3) == {}


def test_a_wrong_rule_for_the_powers_is_refused(late: Case) -> None:
    recipe = late.reference.recipe
    assert recipe is not None
    one = {"beta1_power": np.ones(())}
    wrong = replace(late.reference, recipe=replace(recipe, scalars=lambda steps: one))
    bench = Bench(reference=wrong, data=late.data, data_set=late.bench.data_set)
    with pytest.raises(UserError, match=r"Recipe\(scalars=\.\.\.\) gives .* TF1 has"):
        late_steps(replace(late, bench=bench))
