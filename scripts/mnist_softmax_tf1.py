"""The script of "Deep MNIST for Experts", part 1, by TF1's compatibility module.

python scripts/mnist_softmax_tf1.py FOLDER

It reads the four gzipped files of MNIST in FOLDER as the tutorial's `read_data_sets` did
(5,000 images are set aside), trains 1,000 steps of 100 images, and prints the accuracy on
the test set. `bench_commands.py` compares its time with that of `mnistport fit`.
"""

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images as float32 [N, 784] from 0 to 1, and labels as one-hot rows [N, 10]."""
    packed = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    pixels = np.frombuffer(packed, np.uint8, offset=16).reshape(-1, 784)
    packed = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    labels = np.frombuffer(packed, np.uint8, offset=8)
    return pixels.astype(np.float32) * np.float32(1 / 255), np.eye(10)[labels]


def batches(images: np.ndarray, labels: np.ndarray, size: int) -> Iterator[list]:
    """Shuffled batches, epoch after epoch."""
    while True:
        order = np.random.permutation(len(images))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield [images[chosen], labels[chosen]]


def main() -> None:
    """Train, test, and print the accuracy."""
    folder = Path(sys.argv[1])
    images, labels = read(folder, "train")
    test_images, test_labels = read(folder, "t10k")
    tf.disable_eager_execution()
    x = tf.placeholder(tf.float32, [None, 784])
    y_ = tf.placeholder(tf.float32, [None, 10])
    W = tf.Variable(tf.zeros([784, 10]))  # noqa: N806
    b = tf.Variable(tf.zeros([10]))
    y = tf.matmul(x, W) + b
    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y)
    train_step = tf.train.GradientDescentOptimizer(0.5).minimize(
        tf.reduce_mean(cross_entropy)
    )
    correct = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
    feeds = batches(images[5000:], labels[5000:], 100)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(1000):
            batch = next(feeds)
            session.run(train_step, {x: batch[0], y_: batch[1]})
        print(session.run(accuracy, {x: test_images, y_: test_labels}))


if __name__ == "__main__":
    main()
