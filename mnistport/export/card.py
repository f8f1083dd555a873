"""The model card of a network: what it is, what was measured, and what is proven."""

from __future__ import annotations

import json
from typing import Any

from mnistport import __version__
from mnistport.environment import environment
from mnistport.export.trained import Trained
from mnistport.export.verdict import Verdict, table
from mnistport.training.evaluation import Score

LICENSE = "mit"
DATA_SETS = {
    "mnist": ("ylecun/mnist", "MNIST"),
    "fashion": ("zalando-datasets/fashion_mnist", "Fashion-MNIST"),
    "digits": ("", "the 1,797 digits of scikit-learn, enlarged to 28 x 28"),
}
"""The name on the hub, "" if there is none, and the name for people."""


def metadata(trained: Trained, data: str, score: Score) -> Any:
    """The head of the card, as the hub reads it: a `ModelCardData`."""
    from huggingface_hub import EvalResult, ModelCardData

    place, title = DATA_SETS[data]
    trained_on = DATA_SETS.get(trained.data, ("", ""))[0]
    return ModelCardData(
        model_name=f"mnistport {trained.network.name}",
        license=LICENSE,
        library_name="mnistport",
        pipeline_tag="image-classification",
        tags=["image-classification", "model_hub_mixin", "pytorch"],
        datasets=[trained_on] if trained_on else None,
        metrics=["accuracy"],
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=place or "digits",
                dataset_name=title,
                dataset_split="test",
                metric_type="accuracy",
                metric_value=score.accuracy,
            )
        ],
    )


def text(trained: Trained, data: str, score: Score, verdict: Verdict) -> str:
    """The card below its head, in Markdown."""
    sections = (
        _opening(trained),
        _measured(trained, data, score),
        _recipe(trained),
        _proven(verdict),
        _origin(trained),
    )
    return "\n\n".join(sections) + "\n"


def _opening(trained: Trained) -> str:
    return f"""\
# {trained.network.name}

The network of "{trained.network.source.title}" in PyTorch, trained by `mnistport`
{__version__}.

```python
from mnistport.export.hub import HubNetwork

network = HubNetwork.from_pretrained(".")  # this folder, or OWNER/NAME on the hub
scores = network(pixels)  # [N, 784] in [0, 1], 0 is the ground -> [N, 10]
```

The scores are what the network's module returns in evaluation mode, without dropout. The
largest is the class. A picture of yours is prepared by `mnistport predict --images`."""


def _measured(trained: Trained, data: str, score: Score) -> str:
    lines = [
        "## Measured",
        "",
        "| test set | images | correct | accuracy |",
        "|---|---|---|---|",
        f"| {DATA_SETS[data][1]} | {score.total:,} | {score.correct:,} | "
        f"{score.accuracy:.4f} |",
    ]
    figures = [one for one in trained.network.published if one.what == "test accuracy"]
    for figure in figures:
        said = figure.quote or f"{figure.value}"
        lines += ["", f'The tutorial says, for its whole recipe on MNIST: "{said}".']
    return "\n".join(lines)


def _recipe(trained: Trained) -> str:
    recipe = trained.network.recipe
    whole = (
        f"{recipe.steps:,} steps"
        if recipe.steps is not None
        else f"{recipe.epochs:,} epochs"
    )
    steps = "not known" if trained.step is None else f"{trained.step:,}"
    options = json.dumps(dict(trained.options)) if trained.options else "the tutorial's"
    title = DATA_SETS.get(trained.data, ("", trained.data))[1]
    rows = {
        "trained on": title,
        "optimizer steps": f"{steps} (the tutorial's recipe has {whole})",
        "images in a step": trained.settings.get("data.batch_size", "not known"),
        "order of the images": trained.settings.get("data.stream", "not known"),
        "optimizer": trained.optimizer,
        "network's options": options,
        "validation set": f"the {recipe.split} twelfth of the training images",
        "seed": trained.settings.get("seed_everything", "not known"),
        "torch here": environment()["torch"],
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["## Recipe", "", "| | |", "|---|---|", *lines])


def _proven(verdict: Verdict) -> str:
    head = "## Is it the tutorial's network?\n\n"
    if verdict.problem:
        return (
            f"{head}This was not asked when the card was written ({verdict.problem}). "
            f"`{verdict.command}` asks it."
        )
    versions = verdict.environment
    holds = (
        "Every claim holds."
        if not verdict.failed
        else f"**{verdict.failed} of {len(verdict.results)} claims do not hold.**"
    )
    lines = "\n".join(table(verdict))
    return f"""\
{head}`{verdict.command}` loads identical weights into the tutorial's TF1 graph and into
this network, and compares them. {holds} Each cell is the comparison nearest its bound:
the largest difference, and what is allowed. The trained weights play no part in it.

{lines}

Made with TensorFlow {versions.get("tensorflow")} and torch {versions.get("torch")}."""


def _origin(trained: Trained) -> str:
    source = trained.network.source
    return f"""\
## Origin and licence

The tutorial: {source.title}; {source.where}.
It has a licence of its own. The code of `mnistport` and these weights are under the MIT
licence."""
