"""The network of `three_minute_adam` with RMSProp: "3-minute deep learning", 7.2.9."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mnistport.network import Departure, Network, Published, Source
from mnistport.networks import three_minute_adam
from mnistport.optimizers import RMSProp

NETWORK = Network(
    name="three_minute_rmsprop",
    module=three_minute_adam.ThreeMinute,
    loss=three_minute_adam.NETWORK.loss,
    pure=True,
    recipe=replace(
        three_minute_adam.NETWORK.recipe,
        optimizer=partial(RMSProp, learning_rate=0.001, decay=0.9),
    ),
    source=Source(
        title="3-minute deep learning, 7.2.9, RMSProp",
        # The program's line that chooses RMSProp is commented out.
        where="the book, chapter 7.2.9; as a program: "
        "golbin/TensorFlow-Tutorials, 07 - CNN/01 - CNN.py, at commit 909a8b77d5bb",
    ),
    published=(
        Published(what="test accuracy", value=0.9896),
        Published(
            what="loss per epoch",
            value=(
                *(0.923, 0.097, 0.062, 0.050, 0.041, 0.036, 0.030, 0.027),
                *(0.023, 0.021, 0.018, 0.017, 0.016, 0.015, 0.013),
            ),
        ),
    ),
    departures=(
        Departure(
            name="optimizer",
            like="torch",
            text="torch.optim.RMSprop starts its mean square at 0 and adds an epsilon of "
            "1e-8 to its root; TF1's starts at 1 and adds 1e-10 under the root",
            settings={
                "model.optimizer": "torch_rmsprop",
                "model.learning_rate": 0.001,
                "model.optimizer_options.decay": 0.9,
            },
        ),
    ),
)
