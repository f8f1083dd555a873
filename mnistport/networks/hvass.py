"""Two convolutions and a hidden layer: Hvass-Labs TensorFlow Tutorial #02.

The tutorial ends with exercises. Each exercise is an option of the network. `Hvass()`,
without options, is the tutorial's own network.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn

from mnistport.data.batches import RandomBatch
from mnistport.layers import (
    AveragePool,
    Conv2d,
    Dense,
    Dropout,
    MaxPool,
    ReluMaxPool,
    as_image,
    cross_entropy,
    flatten,
    kept_fraction,
    normal_,
    truncated_normal_,
)
from mnistport.network import (
    BatchAccuracy,
    Departure,
    Network,
    Published,
    Recipe,
    Source,
    StageAccuracy,
)
from mnistport.optimizers import Adam
from mnistport.values import choice, switch, whole_number

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
POOLINGS = {
    "max": MaxPool,
    "average": AveragePool,
    "none": nn.Identity,
    "stride": nn.Identity,
}


class Hvass(nn.Module):
    """Pixels `[N, 784]` in [0, 1] to scores before softmax `[N, 10]`.

    Args:
        filter_size1: Rows and columns of the first convolution's filters.
        num_filters1: Filters of the first convolution.
        filter_size2: Rows and columns of the second convolution's filters.
        num_filters2: Filters of the second convolution.
        fc_size: Units of the hidden layer.
        keep_prob: Fraction of the hidden units that is kept while training. 1 means no
            dropout.
        activation: The function after each convolution and hidden layer: "relu" or
            "sigmoid".
        activation_first: Apply the activation before the pooling, and not after it.
        pooling: "max", "average" or "none". "stride" means no pooling, but convolutions
            with stride 2.
        extra_convolution: Add a third convolution with pooling. It has the size and
            number of filters of the second one.
        extra_dense: Add a second hidden layer of `fc_size` units.
        last_relu: Apply ReLU to the scores.
        truncated: Truncate the initial distribution at two standard deviations.

    Same as the tutorial, if there are no arguments: The padding is SAME. Weights start
    from a truncated normal distribution with standard deviation 0.05, biases at 0.05.
    **ReLU follows the max-pooling.** There is no dropout.

    Raises:
        UserError: An argument cannot have this value.

    Source: See `NETWORK.source`. License: MIT.
    """

    def __init__(
        self,
        *,
        filter_size1: int = 5,
        num_filters1: int = 16,
        filter_size2: int = 5,
        num_filters2: int = 36,
        fc_size: int = 128,
        keep_prob: float = 1.0,
        activation: Literal["relu", "sigmoid"] = "relu",
        activation_first: bool = False,
        pooling: Literal["max", "average", "none", "stride"] = "max",
        extra_convolution: bool = False,
        extra_dense: bool = False,
        last_relu: bool = False,
        truncated: bool = True,
    ) -> None:
        super().__init__()
        whole_number("filter_size1", filter_size1)
        whole_number("num_filters1", num_filters1)
        whole_number("filter_size2", filter_size2)
        whole_number("num_filters2", num_filters2)
        whole_number("fc_size", fc_size)
        switch("activation_first", activation_first)
        switch("extra_convolution", extra_convolution)
        switch("extra_dense", extra_dense)
        switch("last_relu", last_relu)
        fill = truncated_normal_ if switch("truncated", truncated) else normal_
        act = ACTIVATIONS[choice("activation", activation, ACTIVATIONS)]
        reduce = POOLINGS[choice("pooling", pooling, POOLINGS)]

        def pool() -> nn.Module:
            if pooling == "max" and activation == "relu":
                return ReluMaxPool()  # in either order, it is the same function
            if activation_first:
                return nn.Sequential(act(), reduce())
            return nn.Sequential(reduce(), act())

        stride = 2 if pooling == "stride" else 1
        self.conv1 = Conv2d(1, num_filters1, filter_size1, stride=stride)
        self.pool1 = pool()  # 28 -> 14
        self.conv2 = Conv2d(num_filters1, num_filters2, filter_size2, stride=stride)
        self.pool2 = pool()  # 14 -> 7
        size = 28 if pooling == "none" else 7
        self.conv3: nn.Module = nn.Identity()
        self.pool3: nn.Module = nn.Identity()
        if extra_convolution:
            self.conv3 = Conv2d(num_filters2, num_filters2, filter_size2, stride=stride)
            self.pool3 = pool()
            size = 28 if pooling == "none" else 4  # 7 -> 4
        self.fc1 = Dense(size * size * num_filters2, fc_size)
        self.act1 = act()
        drops = kept_fraction(keep_prob) < 1.0
        self.dropout = Dropout(keep_prob) if drops else nn.Identity()
        self.fc_extra: nn.Module = nn.Identity()
        if extra_dense:
            self.fc_extra = nn.Sequential(Dense(fc_size, fc_size), act())
        self.fc2 = Dense(fc_size, 10)
        self.last = nn.ReLU() if last_relu else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, (Conv2d, Dense)):
                fill(layer.weight, std=0.05)
                nn.init.constant_(layer.bias, 0.05)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        layer1 = self.pool1(self.conv1(as_image(pixels)))
        layer2 = self.pool2(self.conv2(layer1))
        layer3 = self.pool3(self.conv3(layer2))
        fc1 = self.dropout(self.act1(self.fc1(flatten(layer3))))
        logits: Tensor = self.last(self.fc2(self.fc_extra(fc1)))
        return logits


NETWORK = Network(
    name="hvass",
    module=Hvass,
    loss=cross_entropy,
    pure=True,
    recipe=Recipe(
        optimizer=partial(Adam, learning_rate=1e-4),
        stream=RandomBatch,
        split="last",
        scaling="divide",
        batch_size=64,
        steps=10_000,
        reports=(
            BatchAccuracy(
                every=100,
                when="after",
                line="Optimization Iteration: {iteration:>6}, "
                "Training Accuracy: {accuracy:>6.1%}",
            ),
            StageAccuracy(
                stages=(1, 100, 1_000, 10_000),
                before="Accuracy on Test-Set: {accuracy:.1%} ({correct} / {total})",
                line="Time usage: {time}\n"
                "Accuracy on Test-Set: {accuracy:.1%} ({correct} / {total})",
            ),
        ),
        test_line="Accuracy on Test-Set: {accuracy:.1%} ({correct} / {total})",
    ),
    source=Source(
        title="TensorFlow Tutorial #02, Convolutional Neural Network",
        where="Hvass-Labs/TensorFlow-Tutorials, 02_Convolutional_Neural_Network.ipynb, "
        "at commit 0bd3e438293a; its batches: mnist.py, at commit 60c5c46d8223",
    ),
    published=(
        Published(
            what="test accuracy",
            value=0.99,
            quote="about 99 % after 10,000 iterations",
            decimals=2,
        ),
    ),
    departures=(
        Departure(
            name="truncation",
            like="torch",
            text="initial weights are not truncated, as torch's trunc_normal_ cuts at 2 "
            "by default; the tutorial cuts at two standard deviations, which is 0.1",
            settings={"truncated": False},
        ),
        Departure(
            name="optimizer",
            like="torch",
            text="torch.optim.Adam adds epsilon after the bias correction; TF1's Adam "
            "adds it before",
            settings={"model.optimizer": "torch_adam", "model.learning_rate": 1e-4},
        ),
        Departure(
            name="shuffling",
            like="torch",
            text="each image is used once an epoch, as with DataLoader(shuffle=True); "
            "the tutorial draws images with replacement",
            settings={"data.stream": "next_batch"},
        ),
    ),
)
