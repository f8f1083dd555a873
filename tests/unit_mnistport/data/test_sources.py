"""Data sets: files are found, refused or downloaded, and never changed."""

import gc
import gzip
import hashlib
import http.server
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mnistport.data import sources
from mnistport.data.sources import ImageSet, load, scale, split
from mnistport.errors import UserError

FASHION_START = [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1, 2, 4, 8, 0]
CLOSED_PORT = "http://127.0.0.1:9/"


def write_set(
    folder: Path, *, packed=True, num_train=24, num_test=20, test_labels=None, seed=0
) -> dict[str, bytes]:
    """Write four small good IDX files of random pixels; their bytes before packing."""
    random, files = np.random.RandomState(seed), {}
    for part, count in (("train", num_train), ("t10k", num_test)):
        pixels, labels = random.bytes(784 * count), random.randint(0, 10, count)
        if part == "t10k" and test_labels is not None:
            labels = np.array(test_labels)
        files[f"{part}-images-idx3-ubyte"] = (
            struct.pack(">IIII", 2051, count, 28, 28) + pixels
        )
        files[f"{part}-labels-idx1-ubyte"] = (
            struct.pack(">II", 2049, count) + labels.astype(np.uint8).tobytes()
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )
    return files


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """An empty cache folder, no MNISTPORT_DATA, and no message printed so far.

    Returns the real MNISTPORT_DATA.
    """
    real = os.environ.get("MNISTPORT_DATA")
    monkeypatch.delenv("MNISTPORT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_said_digits", False)
    return real


@pytest.fixture
def real_mnist(elsewhere) -> Path:
    if not elsewhere:
        pytest.skip("MNISTPORT_DATA does not name a folder with the real MNIST")
    return Path(elsewhere)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def mirror(monkeypatch):
    """Let torchvision download from this address, and expect these files there."""
    from torchvision import datasets

    def divert(url: str, served: Path | None = None) -> None:
        for dataset in (datasets.MNIST, datasets.FashionMNIST):
            monkeypatch.setattr(dataset, "mirrors", [url])
            if served is not None:
                sums = [
                    (p.name, hashlib.md5(p.read_bytes()).hexdigest())
                    for p in sorted(served.iterdir())
                ]
                monkeypatch.setattr(dataset, "resources", sums)

    divert(CLOSED_PORT)
    return divert


@pytest.fixture
def server(tmp_path):
    """A small MNIST on a real HTTP server. Yields the folder and the address."""
    served = tmp_path / "served"
    write_set(served)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield served, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def refused(pattern: str, *args, **options) -> None:
    with pytest.raises(UserError, match=pattern) as caught:
        load(*args, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "below"), [("mnist", "MNIST/raw"), ("fashion", "FashionMNIST/raw")]
)
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_finds_the_four_files(folder, name, below, flat, packed):
    raw = folder if flat else folder / below
    files, before = write_set(raw, packed=packed), contents(folder)
    data = load(name, folder)
    assert (data.name, data.origin, len(data.train), len(data.test)) == (
        name,
        str(raw),
        24,
        20,
    )
    assert data.train.images.shape == (24, 784)
    assert data.train.images.dtype == data.train.labels.dtype == np.uint8
    assert data.train.images.tobytes() == files["train-images-idx3-ubyte"][16:]
    assert data.train.labels.tobytes() == files["train-labels-idx1-ubyte"][8:]
    assert data.test.images.tobytes() == files["t10k-images-idx3-ubyte"][16:]
    assert data.test.labels.tobytes() == files["t10k-labels-idx1-ubyte"][8:]
    assert contents(folder) == before


def test_the_folder_named_after_the_set_comes_before_flat_files(folder):
    write_set(folder, seed=1)
    write_set(folder / "FashionMNIST/raw", seed=2)
    assert load("fashion", folder).origin == str(folder / "FashionMNIST/raw")
    assert load("mnist", folder).origin == str(folder)
    (folder / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    assert load("fashion", folder).origin == str(folder), (
        "a complete folder comes before an incomplete one"
    )


def test_the_directory_comes_from_the_argument_then_the_environment_then_the_cache(
    folder, tmp_path, monkeypatch
):
    for name in ("data", "set", "cache/mnistport", "home/.cache/mnistport"):
        write_set(tmp_path / name)
    monkeypatch.setenv("MNISTPORT_DATA", str(tmp_path / "set"))
    assert load("mnist", folder).origin == str(folder)
    assert load("mnist").origin == load().origin == str(tmp_path / "set")
    monkeypatch.setenv("MNISTPORT_DATA", "")
    assert load("mnist").origin == str(tmp_path / "cache/mnistport")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load("mnist").origin == str(tmp_path / "home/.cache/mnistport")
    assert load("mnist", "~/.cache/mnistport").origin == str(
        tmp_path / "home/.cache/mnistport"
    )


def test_auto_finds_mnist_in_the_cache_when_a_named_directory_has_none(folder, tmp_path):
    write_set(tmp_path / "cache/mnistport")
    assert load("auto", folder, download=False).origin == str(
        tmp_path / "cache/mnistport"
    )


@pytest.mark.parametrize("source", ["mnist", "fashion", "auto"])
def test_a_directory_that_was_named_must_exist(tmp_path, monkeypatch, source):
    (tmp_path / "file").touch()
    refused(
        "data directory .*/absent: no such directory; .*--data.dir",
        source,
        tmp_path / "absent",
    )
    refused("data directory .*/file: no such directory", source, str(tmp_path / "file"))
    monkeypatch.setenv("MNISTPORT_DATA", str(tmp_path / "gone"))
    refused("MNISTPORT_DATA .*/gone: no such directory", source)
    assert load("digits").name == "digits"  # needs no directory


def test_an_unknown_source_is_refused_with_the_known_ones():
    refused("data source 'mnits': expected one of auto, mnist, fashion, digits", "mnits")


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("below", [".", "MNIST/raw"])
def test_an_incomplete_set_is_refused_and_left_alone(folder, source, below):
    write_set(folder / below)
    for name in ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (folder / below / name).unlink()
    before = contents(folder)
    refused(
        r"train-labels-idx1-ubyte, t10k-images-idx3-ubyte missing "
        r"\(with or without .gz\)",
        source,
        folder,
    )
    assert contents(folder) == before


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_a_damaged_set_is_an_error_under_auto_too(folder, source, capsys):
    write_set(folder)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    before = contents(folder)
    refused("t10k-images-idx3-ubyte.gz: its gzip data ends too early", source, folder)
    assert contents(folder) == before
    path.unlink()
    path.mkdir()
    refused("t10k-images-idx3-ubyte.gz: found a directory", source, folder)
    path.rmdir()
    path.symlink_to(folder / "moved away")
    refused("t10k-images-idx3-ubyte.gz: no such file", source, folder)
    assert capsys.readouterr() == ("", "")


def test_swapped_files_and_counts_that_differ_are_refused(folder):
    write_set(folder)
    images, labels = (
        folder / "train-images-idx3-ubyte.gz",
        folder / "train-labels-idx1-ubyte.gz",
    )
    sound = labels.read_bytes()
    labels.write_bytes(gzip.compress(struct.pack(">II", 2049, 23) + bytes(23)))
    refused(
        "train-images-idx3-ubyte.gz: found 24 images, "
        "but train-labels-idx1-ubyte.gz has 23 labels",
        "mnist",
        folder,
    )
    labels.write_bytes(images.read_bytes())
    images.write_bytes(sound)
    refused(
        "train-images-idx3-ubyte.gz: .*were images and labels swapped", "mnist", folder
    )


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_in_the_place_of_mnist_is_refused(folder, packed):
    write_set(folder, packed=packed, test_labels=FASHION_START)
    for source in ("mnist", "auto"):
        refused(
            f"{folder}: these files are fashion, not mnist; give --data.source fashion",
            source,
            folder,
        )
    assert load("fashion", folder).name == "fashion"


def test_the_real_mnist_is_read(real_mnist, folder):
    data = load("mnist", real_mnist)
    assert (data.name, len(data.train), len(data.test)) == ("mnist", 60000, 10000)
    assert load("auto", real_mnist).name == "mnist"
    refused(
        "these files are mnist, not fashion; give --data.source mnist",
        "fashion",
        real_mnist,
    )
    with gzip.open(real_mnist / "t10k-labels-idx1-ubyte.gz") as labels:
        write_set(folder)
        (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(labels.read(), 1)
        )
    shutil.copy(real_mnist / "t10k-images-idx3-ubyte.gz", folder)
    # Packed in another way, and only the test set; it is recognised all the same.
    refused("these files are mnist, not fashion", "fashion", folder)


def test_download_into_torchvisions_layout(folder, server, mirror, capsys):
    served, url = server
    mirror(url, served)
    data = load("mnist", folder)
    assert data.origin == str(folder / "MNIST/raw")
    assert "downloading mnist into" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["MNIST"], (
        "nothing temporary is left"
    )
    images = gzip.decompress((served / "train-images-idx3-ubyte.gz").read_bytes())
    assert data.train.images.tobytes() == images[16:]
    mirror(CLOSED_PORT)
    assert load("mnist", folder).origin == str(folder / "MNIST/raw"), (
        "the second time, the files are on disk"
    )


def test_auto_downloads_into_the_cache_and_not_into_a_named_directory(
    folder, server, mirror, tmp_path
):
    mirror(server[1], server[0])
    assert load("auto", folder).origin == str(tmp_path / "cache/mnistport/MNIST/raw")
    assert list(folder.iterdir()) == []
    mirror(CLOSED_PORT)
    assert load("auto", folder).name == load("auto").name == "mnist"


# torchvision does not close the response of a server that answers 404
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("damage", ["changed", "absent", "occupied"])
def test_a_download_that_goes_wrong_leaves_nothing(folder, server, mirror, damage):
    served, url = server
    mirror(url, served)
    last = served / "train-labels-idx1-ubyte.gz"
    if damage == "changed":
        last.write_bytes(last.read_bytes()[:-1] + b"!")
    elif damage == "absent":
        last.unlink()
    else:
        (folder / "MNIST/raw").mkdir(parents=True)
        (folder / "MNIST/raw/notes").write_text("mine")
    before = contents(folder)
    gone = "(Error downloading train-labels|File not found or corrupted)"
    reason = "not empty" if damage == "occupied" else gone
    refused(
        f"mnist could not be downloaded .*{reason}.*put the four IDX files in {folder}",
        "mnist",
        folder,
    )
    assert contents(folder) == before
    assert not list(folder.glob(".*"))
    assert socket.getdefaulttimeout() is None
    gc.collect()


def test_another_process_that_was_faster_is_not_overwritten(
    folder, server, mirror, monkeypatch
):
    mirror(server[1], server[0])
    download = sources._download

    def slowly(dataset, root):
        assert Path(root).parent == folder, (
            "the folder must be beside the target: a rename stays in one file system"
        )
        download(dataset, root)
        write_set(folder / "MNIST/raw", seed=7)

    monkeypatch.setattr(sources, "_download", slowly)
    images = load("mnist", folder).train.images
    assert (
        images.tobytes()
        == write_set(folder.parent / "same", seed=7)["train-images-idx3-ubyte"][16:]
    )


@pytest.mark.parametrize("source", ["mnist", "fashion"])
def test_no_network_says_what_to_do(folder, mirror, source, capsys):
    refused(
        f"{source} could not be downloaded .*refused.*--data.dir or --data.source digits",
        source,
        folder,
    )
    refused(
        "downloading is off; put the four IDX files in", source, folder, download=False
    )
    refused(
        "downloading is off; put the four IDX files in .*/cache/mnistport",
        source,
        download=False,
    )
    assert list(folder.iterdir()) == []
    assert not (folder.parent / "cache").exists()
    assert capsys.readouterr() == ("", "")


def test_a_server_that_never_answers_is_given_up_on(folder, mirror, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        start = time.monotonic()
        refused("mnist could not be downloaded .*(no answer|timed out)", "mnist", folder)
        assert time.monotonic() - start < 2


def test_a_name_server_that_never_answers_is_given_up_on(folder, mirror, monkeypatch):
    mirror("http://mirror.invalid/")
    over = threading.Event()

    def look_up(*args):
        over.wait(10)
        raise socket.gaierror("over")

    monkeypatch.setattr(sources, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.monotonic()
    try:
        refused(
            "mnist could not be downloaded .no answer in 0.3 seconds", "mnist", folder
        )
    finally:
        over.set()
    assert time.monotonic() - start < 2


def test_auto_without_mnist_takes_the_digits_and_says_so_once(folder, mirror, capsys):
    assert load("auto", folder).name == "digits"
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "DIGITS OF SCIKIT-LEARN, NOT MNIST" in err
    assert f"no MNIST in {folder}" in err
    assert "--data.dir" in err
    assert load("auto", folder).name == load("auto", download=False).name == "digits"
    assert capsys.readouterr() == ("", "")


def test_digits():
    from sklearn.datasets import load_digits

    data, again, small = load("digits"), load("digits"), load_digits()
    assert (data.name, data.origin, len(data.train), len(data.test)) == (
        "digits",
        "scikit-learn",
        1500,
        297,
    )
    images = np.concatenate([data.train.images, data.test.images])
    assert images.shape == (1797, 784)
    assert images.dtype == data.train.labels.dtype == np.uint8
    np.testing.assert_array_equal(
        np.concatenate([data.train.labels, data.test.labels]), small.target
    )
    np.testing.assert_array_equal(again.test.images, data.test.images)
    squares = images.reshape(-1, 28, 28)
    for row, column in np.ndindex(3, 3):
        inside = squares[:, 2 + row : 26 : 3, 2 + column : 26 : 3]
        np.testing.assert_array_equal(inside, np.floor(small.images * 255 / 16 + 0.5))
    squares[:, 2:26, 2:26] = 0
    assert not squares.any(), "the border is black"


def image_set(count: int) -> ImageSet:
    """Images with their own index in their first pixels."""
    images = np.zeros((count, 784), np.uint8)
    images[:, :8] = np.arange(count)[:, None].view(np.uint8)
    return ImageSet(images, (np.arange(count) % 10).astype(np.uint8))


@pytest.mark.parametrize(
    ("count", "size"), [(60000, 5000), (1500, 125), (1505, 125), (12, 1)]
)
def test_split_gives_views_of_the_first_or_last_twelfth(count, size):
    whole = image_set(count)
    for which, validation_rows, training_rows in [
        ("first", slice(0, size), slice(size, count)),
        ("last", slice(count - size, count), slice(0, count - size)),
    ]:
        training, validation = split(whole, which)
        assert (len(training), len(validation)) == (count - size, size)
        for part, rows in ((training, training_rows), (validation, validation_rows)):
            np.testing.assert_array_equal(part.images[:, :8], whole.images[rows, :8])
            assert part.images.shape == (len(part), 784)
            np.testing.assert_array_equal(part.labels, whole.labels[rows])
            assert np.shares_memory(part.images, whole.images)
            assert np.shares_memory(part.labels, whole.labels)


def test_split_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="found 11 images, expected 12 or more"):
        split(image_set(11), "first")
    with pytest.raises(ValueError, match="'middle': expected 'first' or 'last'"):
        split(image_set(24), "middle")


@pytest.mark.parametrize("shape", [(2500, 784), (1030, 28, 28), (784,), (0, 784)])
def test_scale_is_each_programs_own_arithmetic(shape):
    pixels = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    multiplied = np.multiply(pixels.astype(np.float32), 1.0 / 255.0)
    divided = (pixels / 255.0).astype(np.float32)
    for how, theirs in (("multiply", multiplied), ("divide", divided)):
        ours = scale(pixels, how)
        assert ours.dtype == theirs.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs, strict=True)


def test_the_two_scalings_differ_in_the_last_bit_of_126_values():
    every = np.arange(256, dtype=np.uint8)
    multiplied, divided = scale(every, "multiply"), scale(every, "divide")
    bits = multiplied.view(np.int32) - divided.view(np.int32)
    runs = [(3, 3), (6, 7), (12, 15), (24, 31), (48, 63), (96, 127), (192, 254)]
    differing = [value for first, last in runs for value in range(first, last + 1)]
    assert np.flatnonzero(bits).tolist() == differing
    assert len(differing) == 126
    assert np.abs(bits).max() == 1
    for scaled in (multiplied, divided):
        assert (scaled[0], scaled[255]) == (0.0, 1.0)
        assert np.all(np.diff(scaled) > 0)


def test_scale_refuses_what_it_cannot_do():
    with pytest.raises(TypeError, match="pixels of type float32, expected uint8"):
        scale(np.zeros((1, 784), np.float32), "divide")
    with pytest.raises(ValueError, match="'centre': expected 'multiply' or 'divide'"):
        scale(np.zeros((1, 784), np.uint8), "centre")


def test_records_cannot_be_changed():
    with pytest.raises(AttributeError):
        image_set(1).labels = None


def test_no_framework_is_imported():
    program = (
        "import sys, mnistport.data.idx, mnistport.data.sources, mnistport.data.batches;"
        "heavy = {'torch', 'torchvision', 'tensorflow', 'lightning', 'sklearn'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    root = Path(sources.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# Names that people's files have ---------------------------------------------------------

OTHER_NAMES = {
    "dots": lambda name: name.replace("-idx", ".idx"),
    "capitals": str.upper,
    "underscores": lambda name: name.replace("-", "_"),
    "second download": lambda name: f"{name} (1)",
    "second download of gz": lambda name: f"{name} (1).gz",
    "copy without blank": lambda name: f"{name}(2)",
    "number behind gz": lambda name: f"{name}.gz (1)",
}


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("how", OTHER_NAMES)
def test_files_are_found_under_the_names_that_tools_make_of_theirs(folder, how, source):
    packed = "gz" in how
    files = write_set(folder, packed=packed)
    for name in files:
        written = folder / (f"{name}.gz" if packed else name)
        written.rename(folder / OTHER_NAMES[how](name))
    before = contents(folder)
    data = load(source, folder, download=False)
    assert (data.name, len(data.train), len(data.test)) == ("mnist", 24, 20)
    assert data.train.images.tobytes() == files["train-images-idx3-ubyte"][16:]
    assert contents(folder) == before


def test_the_right_name_comes_before_a_second_download(folder):
    files = write_set(folder, packed=False)
    for name in files:
        shutil.copy(folder / name, folder / f"{name} (1)")
    (folder / "train-images-idx3-ubyte (1)").write_bytes(b"broken")
    assert (
        load("mnist", folder).train.images.tobytes()
        == (files["train-images-idx3-ubyte"][16:])
    )


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize(
    "below", ["raw", "MNIST", "mnist", "mnist/raw", "Mnist/RAW", "MNIST/raw", "Raw"]
)
def test_files_are_found_in_a_folder_below(folder, below, source):
    write_set(folder / below)
    data = load(source, folder, download=False)
    assert (data.name, data.origin) == ("mnist", str(folder / below))


@pytest.mark.parametrize("below", ["fashion-mnist", "Fashion_MNIST/raw", "raw"])
def test_fashion_is_found_in_a_folder_below(folder, below):
    write_set(folder / below, test_labels=FASHION_START)
    assert load("fashion", folder).origin == str(folder / below)


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_the_case_of_a_user_loads(source):
    place = Path(__file__).parents[4] / "shared/cases/dots"
    if not place.is_dir():
        pytest.skip("the folder shared/cases is not there")
    data = load(source, place, download=False)
    assert (data.name, len(data.train), len(data.test)) == ("mnist", 240, 40)


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize(
    "name",
    [
        "mnist.npz",
        "mnist_train.csv",
        "mnist.pkl.gz",
        "train-images-idx3-ubyte.zip",
        "train-images-idx3-ubyte.gz.part",
        "Unconfirmed train-images-idx3.crdownload",
        "train_images.npy",
        "test-labels",
        "MNIST/train-images",
        "raw/train-images.gz",
    ],
)
def test_almost_mnist_never_becomes_the_digits(folder, name, source, capsys):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    before = contents(folder)
    refused(
        rf"holds no mnist that can be read: looked for train-images-idx3-ubyte, .*"
        rf"there lie {name}; .*--data.dir",
        source,
        folder,
    )
    assert contents(folder) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_a_set_with_one_file_under_another_name_says_what_lies_there(folder, source):
    write_set(folder, packed=False)
    (folder / "t10k-labels-idx1-ubyte").rename(folder / "t10k-labels")
    refused(
        r"t10k-labels-idx1-ubyte missing .*there lie t10k-images-idx3-ubyte, "
        r"t10k-labels,",
        source,
        folder,
    )


OTHER_LAYOUTS = [
    ["holiday.jpg"],
    ["archive.zip"],
    ["train/train-images-idx3-ubyte", "test/t10k-images-idx3-ubyte"],
    ["FashionMNIST/raw/train-images-idx3-ubyte"],
    ["MNIST/processed/training.pt", "MNIST/processed/test.pt"],
    ["mnist/3.0.1/mnist-train.tfrecord-00000-of-00001"],
    ["gzip/emnist-letters-train-images-idx3-ubyte.gz"],
    ["training/0/1.png", "testing/0/3.png"],
    ["a/b/c/mnist.pkl"],
]


@pytest.mark.parametrize("names", OTHER_LAYOUTS, ids=repr)
def test_a_named_folder_with_something_else_never_becomes_the_digits(
    folder, names, capsys
):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(UserError, match="holds no mnist that can be read") as error:
        load("auto", folder, download=False)
    assert names[0] in str(error.value)
    assert "--data.source digits" in str(error.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("names", [[], [".hidden"], ["empty/"]], ids=repr)
def test_a_named_folder_without_files_becomes_the_digits_and_it_is_said(
    folder, names, capsys
):
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    assert load("auto", folder, download=False).name == "digits"
    assert "USING THE 1,797 DIGITS" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("below", ["data", "data/MNIST/raw", "MNIST/MNIST/raw"])
def test_files_that_lie_deeper_are_found_and_the_folder_is_named(folder, below, source):
    (folder / below).mkdir(parents=True)
    write_set(folder / below, packed=False)
    refused(
        rf"the four files lie deeper, in .*; give --data.dir .*/{below}$", source, folder
    )


def test_the_files_of_another_set_are_not_taken_for_it(folder):
    (folder / "FashionMNIST/raw").mkdir(parents=True)
    write_set(folder / "FashionMNIST/raw", packed=False)
    with pytest.raises(UserError, match="there lie FashionMNIST/raw/t10k-images"):
        load("auto", folder, download=False)


def test_a_folder_with_the_name_of_a_file_says_what_lies_inside(folder):
    """Kaggle's archive unpacks so."""
    write_set(folder, packed=False)
    for name in sources.FILES:
        (folder / name).rename(folder / "file")
        (folder / name).mkdir()
        (folder / "file").rename(folder / name / name)
    refused(f"inside lies {sources.FILES[0]}: move it up", "auto", folder)
