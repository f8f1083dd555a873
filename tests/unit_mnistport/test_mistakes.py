"""What a user can get wrong: each is one line, status 2, and leaves nothing on disk.

To add a mistake, add a line to a table.
"""

import copy
import os
import pickle
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mnistport import Classifier, MnistData
from mnistport.cli import main
from mnistport.errors import UserError

QUIET = (
    "--data.source digits --trainer.accelerator cpu --trainer.enable_model_summary false "
    "--trainer.enable_progress_bar false"
)
FIT = f"fit --config softmax {QUIET} --trainer.max_steps 2"
HVASS = f"fit --config hvass {QUIET} --trainer.max_steps 2 --model.options."


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a file, which is no folder."""
    (tmp_path / "file").write_text("not a folder")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.fixture
def refused(here, capfd):
    """`refused("fit ...")` is the one line with which a command is refused."""

    def call(line: str) -> str:
        before = everything(here)
        capfd.readouterr()
        status = main(shlex.split(line))
        out, err = capfd.readouterr()
        assert (status, out) == (2, ""), err
        assert err.startswith("mnistport: ")
        assert err.count("\n") == 1, err
        assert everything(here) == before
        return err

    return call


# Command lines --------------------------------------------------------------------------

COMMANDS = """
train                              | no command is called 'train'
--nonsense                         | no command is called '--nonsense'
list x                             | list takes no more words, and got 'x'
list --help x                      | list takes no more words, and got '--help'
--version x                        | --version takes no more words, and got 'x'
--help x                           | --help takes no more words, and got 'x'
-h fit                             | -h takes no more words, and got 'fit'
fit                                | fit needs a recipe; give --config with one of
fit --data.source digits           | fit needs a recipe
fit --trainer.max_steps 3          | fit needs a recipe
test                               | test needs a trained network; give --ckpt_path FILE
test --config softmax              | test needs a trained network
predict                            | predict needs a trained network
predict --config deep              | predict needs a trained network
validate                           | validate needs a trained network
validate --model.network hvass     | validate needs a trained network
test --ckpt_path last              | no checkpoint lies below
test --ckpt_path best              | no checkpoint lies below
predict --ckpt_path last           | no checkpoint lies below
validate --ckpt_path hpc           | no checkpoint lies below
test --config deep --ckpt_path last | no checkpoint of deep lies below
fit --ckpt_path best               | no checkpoint lies below
test --ckpt_path gone.ckpt         | --ckpt_path gone.ckpt: no such file
test --ckpt_path .                 | not a checkpoint that can be read
test --ckpt_path file              | not a checkpoint that can be read
fit --ckpt_path file               | not a checkpoint that can be read
test --ckpt_path http://127.0.0.1:9/a.ckpt | is not read from another machine
test --ckpt_path https://127.0.0.1:9/a.ckpt | is not read from another machine
test --ckpt_path s3://bucket/a.ckpt | is not read from another machine
test --ckpt_path file:///a.ckpt    | is not read from another machine
test --ckpt_path simplecache::http://127.0.0.1:9/a | is not read from another machine
predict --ckpt_path HTTP://127.0.0.1:9/a.ckpt | is not read from another machine
fit --ckpt_path memory://a.ckpt    | is not read from another machine
test --ckpt_path registry:name     | no such file
test --trainer.limit_test_batches 0 --ckpt_path sound.ckpt | test would do nothing
test --trainer.limit_test_batches 0.00001 --ckpt_path sound.ckpt | limit_test_batches
predict --trainer.limit_predict_batches 0.00001 --ckpt_path sound.ckpt | predict_batches
predict --trainer.limit_predict_batches 0 --ckpt_path sound.ckpt | would do nothing
test --ckpt_path                   | expected one argument; `mnistport test --help`
predict --trainer.max_stps 1       | `mnistport predict --help` lists the options
validate --nonsense                | `mnistport validate --help` lists the options
test --nonsense                    | `mnistport test --help` lists the options
fit --config                       | expected one argument
fit --config ''                    | no network is called ''
fit --config /                     | no such file
fit --config .                     | no network is called '.'
fit --config gone.yaml             | --config gone.yaml: no such file
fit --config softmax --trainer pipe | pipe: is a pipe; name a file
fit --config=softmax --model=pipe  | pipe: is a pipe; name a file
fit --config sotfmax               | did you mean 'softmax'?
fit --model.network sotfmax        | did you mean 'softmax'?
fit --confi softmax                | File does not exist
predict --config images.yaml       | images belong on the command line
plot                               | the following arguments are required
plot last                          | the following arguments are required: --out
plot last --out here               | no checkpoint lies below
plot gone.ckpt --out here          | no such file
plot file --out here               | not a checkpoint that can be read
plot https://127.0.0.1:9/a --out x | is not read from another machine
plot sound.ckpt --out file         | is a file; name a folder
plot sound.ckpt --out x --image -1 | -1 is not a whole number of at least 0
plot sound.ckpt --out x --image a  | a is not a whole number of at least 0
plot sound.ckpt --out x --format x | invalid choice: 'x'
plot sound.ckpt --out x --nonsense | unrecognized arguments
export                             | the following arguments are required
export last --out x                | the following arguments are required: --format
export last --format onyx --out x  | invalid choice: 'onyx'
export last --format safetensors --out x.safetensors | no checkpoint lies below
export gone.ckpt --format safetensors --out x.safetensors | gone.ckpt: no such file
export file --format safetensors --out x.safetensors | not a checkpoint that can be read
export pipe --format safetensors --out x.safetensors | pipe
export http://127.0.0.1:9/a --format safetensors --out x.safetensors | another machine
export sound.ckpt --format safetensors --out file | --out file: exists already
export sound.ckpt --format safetensors --out x.pt | a file whose name ends in .safetensors
export sound.ckpt --format onnx --out x.pt | a file whose name ends in .onnx
export sound.ckpt --format torch-export --out x.onnx | a file whose name ends in .pt2
export sound.ckpt --format hf --out gone/x | its folder does not exist
export sound.ckpt --format tf1 --out gone/x | its folder does not exist
export sound.ckpt --format tf1 --out x --data.source digits | only for the model card
export sound.ckpt --format hf --out . | --out .: exists already
export sound.ckpt --format hf --out hub --data.source x | invalid choice: 'x'
export sound.ckpt --format hf --out hub --data.dir gone --data.source mnist | no such dir
export sound.ckpt --format onnx --out x.onnx --no-parity | only for the model card
export sound.ckpt --format safetensors --out gone/x.safetensors | folder does not exist
export sound.ckpt --format safetensors --out file/x.safetensors | folder does not exist
export sound.ckpt --format safetensors --out /proc/x.safetensors | be written there
export sound.ckpt --format safetensors --out x.safetensors --nonsense | unrecognized
reproduce nothing                  | no network is called 'nothing'
reproduce softmax --seeds 0        | 0 is not a whole number of at least 1
reproduce softmax --seeds x        | x is not a whole number
reproduce softmax --seeds=--       | argument --seeds: expected a value
plot sound.ckpt --out=--           | argument --out: expected a value
fit softmax                        | a network is named with --config: mnistport fit
test softmax                       | a network is named with --config: mnistport test
fit --config=--                    | no network is called '--'
reproduce softmax --max-steps 0    | 0 is not a whole number
reproduce softmax --device x       | --device x: there is no such device
reproduce softmax --device cuda:99 | torch sees
reproduce softmax --out file/x     | is a file; name a folder
reproduce softmax --data.source x  | invalid choice: 'x'
reproduce softmax --data.source mnist --data.dir gone | no such directory
reproduce softmax --jobs x         | x is not a whole number
reproduce softmax --options a=1    | has no option 'a'; it has none
reproduce hvass --options fc_size  | fc_size is not of the form fc_size=32,64
reproduce softmax --scheduler x    | Dask
reproduce --nonsense               | unrecognized arguments
"""

FLAGS = """
nonsense                           | unrecognized arguments: nonsense
--nonsense 3                       | unrecognized arguments
--trainer                          | expected one argument
--trainer.max_steps                | expected one argument
--trainer.max_steps x              | trainer.max_steps
--trainer.max_steps -2             | `max_steps` must be a non-negative integer
--trainer.max_steps -1             | would have no end; give --trainer.max_steps
--trainer.max_steps -1 --trainer.max_epochs -1 | would have no end
--trainer.max_steps 0              | max_steps 0: fit would do nothing; give a number
--trainer.max_epochs 0             | max_epochs 0: fit would do nothing; give a number
--trainer.limit_train_batches 0    | limit_train_batches 0: fit would do nothing
--trainer.limit_train_batches 0.0  | limit_train_batches 0.0: fit would do nothing
--trainer.max_epochs -3            | `max_epochs` must be a non-negative integer
--trainer.max_epochs x             | trainer.max_epochs
--trainer.max_time x               | not a valid duration
--trainer.max_time 3               | not a valid duration
--trainer.min_steps -3             | --trainer.min_steps -3: expected a whole number
--trainer.min_epochs -3            | --trainer.min_epochs -3: expected a whole number
--trainer.devices -1               | `devices` selected with `CPUAccelerator`
--trainer.devices 0                | Lightning refuses this combination
--trainer.devices 2 --data.source mnist --data.dir gone | no such directory
--trainer.devices 2 --data.batch_size 9999 | batch size 9999: expected 1 to 1,375
--trainer.devices 2 --trainer.limit_val_batches 1.0 --trainer.val_check_interval 20 | more
--trainer.devices x                | `devices` selected with `CPUAccelerator`
--trainer.devices [3]              | `devices` selected with `CPUAccelerator`
--trainer.num_nodes 0              | --trainer.num_nodes 0: expected a whole number
--trainer.num_nodes x              | trainer.num_nodes
--trainer.accelerator x            | invalid accelerator name
--trainer.accelerator tpu          | Requirement 'torch_xla
--trainer.accelerator hpu          | invalid accelerator name
--trainer.strategy x               | invalid strategy name
--trainer.strategy ddp_spawn       | give --trainer.strategy ddp, which starts them anew
--trainer.strategy ddp_fork --trainer.devices 2 | give --trainer.strategy ddp
--trainer.strategy ddp_notebook    | give --trainer.strategy ddp
--trainer.strategy ddp_fork_find_unused_parameters_true | give --trainer.strategy ddp
--trainer.strategy DDPStrategy --trainer.strategy.start_method fork | strategy ddp
--trainer.strategy fsdp            | requires a GPU
--trainer.strategy deepspeed       | DeepSpeed
--trainer.precision 8              | trainer.precision
--trainer.precision x              | trainer.precision
--trainer.precision transformer-engine | a package is missing
--trainer.logger WandbLogger       | a package is missing
--trainer.logger MLFlowLogger      | a package is missing
--trainer.logger CometLogger       | a package is missing
--trainer.logger Nothing           | trainer.logger
--trainer.logger CSVLogger         | arguments are required: save_dir
--trainer.logger CSVLogger --trainer.logger.save_dir file/x | Not a directory
--trainer.logger TensorBoardLogger --trainer.logger.save_dir file/x | file
--trainer.default_root_dir file/x  | is a file; name a folder
--trainer.default_root_dir /proc/x | cannot be written there
--trainer.check_val_every_n_epoch 0 | expected a whole number of at least 1
--trainer.check_val_every_n_epoch -3 | expected a whole number of at least 1
--trainer.check_val_every_n_epoch x | trainer.check_val_every_n_epoch
--trainer.log_every_n_steps -3     | expected a whole number of at least 0
--trainer.log_every_n_steps x      | trainer.log_every_n_steps
--trainer.val_check_interval -3    | invalid value -3 for val_check_interval
--trainer.val_check_interval 1.5   | invalid value 1.5 for val_check_interval
--trainer.limit_val_batches 1.0 --trainer.val_check_interval 0 | or a share of an epoch
--trainer.limit_val_batches 1.0 --trainer.val_check_interval 0.0 | or a share
--trainer.limit_val_batches 1.0 --trainer.val_check_interval 0 \
 --trainer.check_val_every_n_epoch null | val_check_interval 0: expected a number
--trainer.val_check_interval x     | Invalid time format
--trainer.limit_train_batches -3   | invalid value -3 for limit_train_batches
--trainer.limit_train_batches 1.5  | invalid value 1.5 for limit_train_batches
--trainer.limit_val_batches -3     | for limit_val_batches
--trainer.limit_test_batches x     | trainer.limit_test_batches
--trainer.limit_test_batches 0.00001 | less than one batch
--trainer.overfit_batches -3       | invalid value -3 for overfit_batches
--trainer.overfit_batches 1.5      | invalid value 1.5 for overfit_batches
--trainer.num_sanity_val_steps -3  | expected a whole number of at least -1
--trainer.accumulate_grad_batches 0 | expected a whole number of at least 1
--trainer.accumulate_grad_batches 2 | each batch is one optimizer step
--trainer.gradient_clip_val 1      | the tutorials clip no gradients
--trainer.gradient_clip_val x      | trainer.gradient_clip_val
--trainer.reload_dataloaders_every_n_epochs -3 | expected a whole number of at least 0
--trainer.fast_dev_run -3          | fast_dev_run=-3 is not a valid configuration
--trainer.profiler x               | `profiler`
--trainer.plugins x                | trainer.plugins
--trainer.deterministic x          | trainer.deterministic
--trainer.callbacks x              | trainer.callbacks
--trainer.callbacks+=EarlyStopping | arguments are required: monitor
--trainer.callbacks+=Nothing       | trainer.callbacks
--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss | never logged
--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=acc | never logged
--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath=file/x | is a file
--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath=/proc/x | be written
--trainer.callbacks+=OnExceptionCheckpoint --trainer.callbacks.dirpath=file/x | is a file
--trainer.callbacks+=OnExceptionCheckpoint --trainer.callbacks.dirpath=/proc/x | written
--trainer.profiler SimpleProfiler --trainer.profiler.dirpath file/x \
 --trainer.profiler.filename y | SimpleProfiler's dirpath file/x
--trainer.profiler AdvancedProfiler --trainer.profiler.dirpath /proc/x \
 --trainer.profiler.filename y | AdvancedProfiler's dirpath /proc/x: cannot be written
--trainer.profiler PyTorchProfiler --trainer.profiler.dirpath file/x \
 --trainer.profiler.filename y | PyTorchProfiler's dirpath file/x
--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/los | never logged
--trainer.callbacks+=BackboneFinetuning | backbone
--trainer.callbacks+=ModelPruning --trainer.callbacks.pruning_fn=l1_unstructured \
 --trainer.callbacks.make_pruning_permanent=false | leave it out
--trainer.callbacks+=ModelPruning --trainer.callbacks.pruning_fn=l1_unstructured \
 --trainer.callbacks.amount=-1 | ModelPruning's amount -1: expected
--trainer.callbacks+=ModelPruning --trainer.callbacks.pruning_fn=l1_unstructured \
 --trainer.callbacks.amount=1.5 | ModelPruning's amount 1.5: expected
--trainer.limit_val_batches 0.00001 | limit_val_batches
--trainer.max_time 00:00:00:00     | ended before its first step
--model.learning_rate 0            | expected a finite number greater than 0
--model.learning_rate -1           | expected a finite number greater than 0
--model.learning_rate 1e400        | expected a finite number greater than 0
--model.learning_rate 1e39         | expected a finite number greater than 0
--model.learning_rate 1e-60        | expected a finite number greater than 0
--model.learning_rate nan          | model.learning_rate
--model.learning_rate=-inf         | model.learning_rate
--model.learning_rate .nan         | learning_rate nan: expected a finite number
--model.learning_rate .inf         | learning_rate inf: expected a finite number
--model.learning_rate x            | model.learning_rate
--model.steps_per_execution 0      | expected at least 1 optimizer step
--model.steps_per_execution x      | model.steps_per_execution
--model.engine x                   | model.engine
--model.tf32 x                     | model.tf32
--model.options x                  | model.options
--model.options [1]                | model.options
--model.options.fc_size 8          | 'softmax' has no option 'fc_size'
--model.network nothing            | no network is called 'nothing'
--data.batch_size 0                | batch size 0: expected 1 to 1,375
--data.batch_size -1               | batch size -1: expected 1 to 1,375
--data.batch_size 9999             | batch size 9999: expected 1 to 1,375
--data.batch_size x                | data.batch_size
--data.eval_batch_size 0           | expected at least 1 image
--data.source x                    | data.source
--data.source mnist --data.dir gone | no such directory
--data.source mnist --data.dir file | no such directory
--seed_everything -1               | expected 0 to 4294967295
--seed_everything 4294967296       | expected 0 to 4294967295
--seed_everything x                | seed_everything
--weights_only false               | no code in a checkpoint is ever run
--optimizer Adam                   | unrecognized arguments
"""

OPTIONS = """
fc_size 0                          | fc_size 0: expected a whole number of at least 1
fc_size -1                         | fc_size -1: expected a whole number of at least 1
fc_size x                          | fc_size 'x': expected a whole number of at least 1
fc_size 1.5                        | fc_size 1.5: expected a whole number of at least 1
fc_size 8.0                        | fc_size 8.0: expected a whole number of at least 1
fc_size true                       | fc_size True: expected a whole number of at least 1
fc_size null                       | fc_size None: expected a whole number of at least 1
fc_size [8]                        | fc_size [8]: expected a whole number of at least 1
fc_size 1000000000000              | allocate
num_filters1 0                     | num_filters1 0: expected a whole number
num_filters2 2.5                   | num_filters2 2.5: expected a whole number
filter_size1 0                     | filter_size1 0: expected a whole number
filter_size2 x                     | filter_size2 'x': expected a whole number
keep_prob 0                        | keep_prob is the fraction kept
keep_prob -1                       | keep_prob is the fraction kept
keep_prob 2                        | keep_prob is the fraction kept, in (0, 1]; got 2
keep_prob 1.0000001                | keep_prob is the fraction kept
keep_prob 1e-60                    | keep_prob is the fraction kept
keep_prob .nan                     | keep_prob is the fraction kept, in (0, 1]; got nan
keep_prob .inf                     | keep_prob is the fraction kept
keep_prob true                     | keep_prob is the fraction kept
keep_prob x                        | keep_prob is the fraction kept
pooling x                          | expected one of max, average, none, stride
pooling [max]                      | expected one of max, average, none, stride
activation x                       | expected one of relu, sigmoid
activation null                    | expected one of relu, sigmoid
activation_first 1                 | activation_first 1: expected true or false
extra_convolution x                | extra_convolution 'x': expected true or false
extra_dense 0                      | extra_dense 0: expected true or false
last_relu maybe                    | last_relu 'maybe': expected true or false
fc_sise 8                          | has no option 'fc_sise'
"""

CONFIGURATIONS = {
    "": "Unexpected config",
    "[1]": "Unexpected config",
    "a: b: c": "mapping values are not allowed",
    "\x00": "unacceptable character",
    "nothing: 1": "does not accept option 'nothing'",
    "trainer: []": "trainer is a list, expected a mapping",
    "trainer: x": 'key "trainer"',
    "model: x": 'key "model"',
    "data: x": 'key "data"',
    "trainer: {nothing: 1}": "nothing",
    "trainer: {callbacks: 5}": "trainer.callbacks",
    "trainer: {callbacks: [5]}": "trainer.callbacks",
    "trainer: {callbacks: EarlyStopping}": "arguments are required: monitor",
    "trainer: {callbacks: [EarlyStopping]}": "arguments are required: monitor",
    "trainer: {callbacks: {class_path: Nothing}}": "trainer.callbacks",
    "trainer: {callbacks: {init_args: {monitor: val/loss}}}": "trainer.callbacks",
    "trainer: {callbacks: {class_path: EarlyStopping, init_args: {monitor: val/loss, "
    "mode: up}}}": "`mode` can be min, max",
    "trainer: {callbacks: {class_path: EarlyStopping, init_args: {monitor: loss}}}": (
        "EarlyStopping monitors 'loss', which is never logged; there are train/loss"
    ),
    "ckpt_path: gone.ckpt": "--ckpt_path gone.ckpt: no such file",
    "ckpt_path: http://127.0.0.1:9/a.ckpt": "is not read from another machine",
    "ckpt_path: s3://bucket/a.ckpt": "is not read from another machine",
    "ckpt_path: file": "not a checkpoint that can be read",
    "ckpt_path: [1]": "ckpt_path",
    "ckpt_path: 5": "5",
    "model: {learning_rate: .nan}": "expected a finite number greater than 0",
    "model: {learning_rate: .inf}": "expected a finite number greater than 0",
    "weights_only: false": "no code in a checkpoint is ever run",
}


def rows(table: str) -> list[tuple[str, str]]:
    """The lines of a table: what is typed, and what the answer says."""
    cells = [line.rpartition(" | ") for line in table.strip().splitlines()]
    return [(typed.strip(), answer.strip()) for typed, _, answer in cells]


@pytest.mark.thinned
@pytest.mark.parametrize(("typed", "answer"), rows(COMMANDS))
def test_a_wrong_command_is_answered_in_one_line(refused, here, sound, typed, answer):
    if "sound.ckpt" in typed:
        torch.save(sound, here / "sound.ckpt")
    (here / "images.yaml").write_text("images: [a.png]")
    assert answer in refused(typed)


@pytest.mark.thinned
@pytest.mark.parametrize(("typed", "answer"), rows(FLAGS))
def test_a_wrong_flag_is_answered_in_one_line(refused, typed, answer):
    assert answer in refused(f"{FIT} {typed}")


@pytest.mark.thinned
@pytest.mark.parametrize(("typed", "answer"), rows(OPTIONS))
def test_a_wrong_option_is_answered_in_one_line(refused, typed, answer):
    assert answer in refused(HVASS + typed)


@pytest.mark.thinned
@pytest.mark.parametrize(("text", "answer"), CONFIGURATIONS.items())
def test_a_wrong_configuration_is_answered_in_one_line(refused, here, text, answer):
    (here / "mine.yaml").write_text(text)
    assert answer in refused(f"{FIT} --config mine.yaml")


# Checkpoints ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The content of a checkpoint of softmax after two steps."""
    folder = tmp_path_factory.mktemp("sound")
    words = f"{FIT} --trainer.logger false --trainer.default_root_dir {folder}"
    assert main(shlex.split(words)) == 0
    (path,) = folder.glob("checkpoints/*.ckpt")
    return torch.load(path, weights_only=True)


def put(*path_and_value):
    """A change of a checkpoint: the last value is put at the path."""
    *path, last, value = path_and_value

    def change(checkpoint):
        for key in path:
            checkpoint = checkpoint[key]
        checkpoint[last] = value

    return change


def drop(*path):
    """A change of a checkpoint: what is at the path is removed."""

    def change(checkpoint):
        for key in path[:-1]:
            checkpoint = checkpoint[key]
        del checkpoint[path[-1]]

    return change


def quantized(checkpoint):
    """A weight has eight bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch make none
        bias = torch.quantize_per_tensor(torch.zeros(10), 0.1, 0, torch.qint8)
    checkpoint["state_dict"]["net.fc.bias"] = bias


OURS, LOOPS, OPTIMIZER = "mnistport", "loops", "optimizer_states"
ALWAYS_REFUSED = {
    "no weights": drop("state_dict"),
    "weights are a string": put("state_dict", "x"),
    "weights are a list": put("state_dict", [1]),
    "a weight is a number": put("state_dict", "net.fc.bias", 1.0),
    "a weight is missing": drop("state_dict", "net.fc.bias"),
    "a weight has another shape": put("state_dict", "net.fc.bias", torch.zeros(3)),
    "a weight of whole numbers": put(
        *("state_dict", "net.fc.bias", torch.zeros(10, dtype=torch.int32))
    ),
    "a weight of truth values": put(
        *("state_dict", "net.fc.bias", torch.zeros(10, dtype=torch.bool))
    ),
    "a weight of complex numbers": put(
        *("state_dict", "net.fc.bias", torch.zeros(10, dtype=torch.complex64))
    ),
    "a weight that is sparse": put(
        *("state_dict", "net.fc.weight", torch.zeros(10, 784).to_sparse())
    ),
    "a weight without values": put(
        *("state_dict", "net.fc.bias", torch.zeros(10, device="meta"))
    ),
    "a weight is quantized": quantized,
    "a weight too many": put("state_dict", "net.more", torch.zeros(3)),
    "not ours": drop(OURS),
    "ours is a string": put(OURS, "softmax"),
    "ours is a list": put(OURS, []),
    "ours is None": put(OURS, None),
    "no network": drop(OURS, "network"),
    "the network is a number": put(OURS, "network", 5),
    "the network is a list": put(OURS, "network", ["softmax"]),
    "the network is unknown": put(OURS, "network", "nothing"),
    "the seed is a string": put(OURS, "seed_everything", "x"),
    "the seed is negative": put(OURS, "seed_everything", -1),
    "the batch size is a string": put(OURS, "data.batch_size", "x"),
    "an unknown setting": put(OURS, "nothing", 1),
    "hyper-parameters are a string": put("hyper_parameters", "x"),
    "hyper-parameters are a list": put("hyper_parameters", []),
    "an unknown hyper-parameter": put("hyper_parameters", "nothing", 1),
    "options are a string": put("hyper_parameters", "options", "x"),
    "an unknown option": put("hyper_parameters", "options", {"nothing": 1}),
    "a learning rate of another type": put("hyper_parameters", "learning_rate", "x"),
    "the data's are a string": put("datamodule_hyper_parameters", "x"),
    "the data's source is unknown": put("datamodule_hyper_parameters", "source", "x"),
    "callbacks are a list": put("callbacks", []),
    "the losses of the epoch are a string": put(
        *("callbacks", "TutorialLines", "loss_sum", "x")
    ),
    "a hyper-parameter's name is a number": put("hyper_parameters", 5, 1),
    "a name of the data's is a number": put("datamodule_hyper_parameters", 5, 1),
    "a weight's name is a number": put("state_dict", 5, torch.zeros(3)),
    "a callback's state is a string": put("callbacks", "ModelCheckpoint{}", "x"),
    "a callback's state is a list": put("callbacks", "EarlyStopping{}", [1]),
    "the losses of the epoch are a whole number": put(
        *("callbacks", "TutorialLines", "loss_sum", 5)
    ),
    "the count of the losses is no whole number": put(
        *("callbacks", "TutorialLines", "loss_count", 1.5)
    ),
    "no version": drop("pytorch-lightning_version"),
    "the version is a word": put("pytorch-lightning_version", "x"),
    "the version is empty": put("pytorch-lightning_version", ""),
    "the version is old": put("pytorch-lightning_version", "0.7.0"),
    "the version is a number": put("pytorch-lightning_version", 5),
}
REFUSED_TO_CONTINUE = {
    "the optimizer's numbers are a string": put(
        *(OPTIMIZER, 0, "param_groups", 0, "params", "x")
    ),
    "a slot has another shape": put(
        *(OPTIMIZER, 0, "state", 0, {"slot": torch.zeros(2, 3)})
    ),
    "no step": drop("global_step"),
    "the step is a string": put("global_step", "x"),
    "the step is negative": put("global_step", -1),
    "no epoch": drop("epoch"),
    "no loops": drop(LOOPS),
    "loops are a string": put(LOOPS, "x"),
    "loops are empty": put(LOOPS, {}),
    "a part of the loops is missing": drop(LOOPS, "fit_loop", "epoch_progress"),
    "a part of the loops is a list": put(LOOPS, "fit_loop", "epoch_progress", []),
    "a count is a string": put(
        *(LOOPS, "fit_loop", "epoch_progress", "current", "ready", "x")
    ),
    "weights only": drop(OPTIMIZER),
    "no optimizer": put(OPTIMIZER, []),
    "the optimizer is a string": put(OPTIMIZER, ["x"]),
    "two optimizers": put(OPTIMIZER, [{}, {}]),
    "an empty optimizer": put(OPTIMIZER, [{}]),
    "the optimizer's groups are a string": put(OPTIMIZER, 0, "param_groups", "x"),
    "the optimizer has no groups": put(OPTIMIZER, 0, "param_groups", []),
    "a group is a string": put(OPTIMIZER, 0, "param_groups", ["x"]),
    "no schedulers": drop("lr_schedulers"),
}
REFUSED_TO_CONTINUE |= {
    "slots where the optimizer has none": put(
        *(OPTIMIZER, 0, "state", 0, {"slot": torch.zeros(784, 10)})
    ),
    "a number where the optimizer has no slots": put(
        *(OPTIMIZER, 0, "state", 0, {"slot": 1.0})
    ),
    "too few weights": put(OPTIMIZER, 0, "param_groups", 0, "params", [0]),
    "weights in another order": put(OPTIMIZER, 0, "param_groups", 0, "params", [1, 0]),
    "no rate": drop(OPTIMIZER, 0, "param_groups", 0, "lr"),
    "a setting too many": put(OPTIMIZER, 0, "param_groups", 0, "momentum", 0.9),
    "a scheduler too many": put("lr_schedulers", [{"gamma": 0.5}]),
    "a scheduler is a string": put("lr_schedulers", ["x"]),
}
REFUSED_TO_CONTINUE |= {
    f"the rate is {rate!r}": put(OPTIMIZER, 0, "param_groups", 0, "lr", rate)
    for rate in ("x", [0.5], None, True, float("nan"), float("inf"), -0.5, 10**400)
}
CHANGES = ALWAYS_REFUSED | REFUSED_TO_CONTINUE


@pytest.mark.thinned
@pytest.mark.parametrize("change", ALWAYS_REFUSED)
def test_a_checkpoint_of_another_form_is_not_scored(refused, here, sound, change):
    checkpoint = copy.deepcopy(sound)
    CHANGES[change](checkpoint)
    torch.save(checkpoint, here / "other.ckpt")
    refused(f"test --ckpt_path other.ckpt {QUIET}")


@pytest.mark.thinned
@pytest.mark.parametrize("change", CHANGES)
def test_no_run_is_continued_from_a_checkpoint_of_another_form(
    refused, here, sound, change
):
    checkpoint = copy.deepcopy(sound)
    CHANGES[change](checkpoint)
    torch.save(checkpoint, here / "other.ckpt")
    refused(f"fit --ckpt_path other.ckpt {QUIET} --trainer.max_steps 4")


@pytest.fixture(scope="module")
def sound_adam(tmp_path_factory):
    """The content of a checkpoint of three_minute_adam after one step."""
    folder = tmp_path_factory.mktemp("adam")
    words = f"{FIT} --trainer.logger false --trainer.default_root_dir {folder}"
    words = words.replace("softmax", "three_minute_adam") + " --trainer.max_steps 1"
    assert main(shlex.split(words)) == 0
    (path,) = folder.glob("checkpoints/*.ckpt")
    return torch.load(path, weights_only=True)


def renamed(checkpoint):
    """The slots have other names."""
    for slots in checkpoint[OPTIMIZER][0]["state"].values():
        slots["exp_avg"] = slots.pop("m")


def keys_as_strings(checkpoint):
    """The weights' numbers are strings."""
    state = checkpoint[OPTIMIZER][0]["state"]
    checkpoint[OPTIMIZER][0]["state"] = {str(key): of for key, of in state.items()}


def small_slots(checkpoint):
    """Every slot is too small, as a whole."""
    for slots in checkpoint[OPTIMIZER][0]["state"].values():
        slots.update(m=torch.zeros(1024), v=torch.zeros(1024))


def slots_of_another_weight(checkpoint):
    """The first two weights have each other's slots."""
    state = checkpoint[OPTIMIZER][0]["state"]
    state[0], state[1] = state[1], state[0]


M = (OPTIMIZER, 0, "state", 0, "m")
GROUP = (OPTIMIZER, 0, "param_groups", 0)
SHAPE = (784, 256)
SLOTS = {
    "small slots": small_slots,
    "a slot is a scalar": put(*M, torch.tensor(0.0)),
    "no slots": put(OPTIMIZER, 0, "state", {}),
    "no slots of one weight": drop(OPTIMIZER, 0, "state", 1),
    "slots of a weight are empty": put(OPTIMIZER, 0, "state", 1, {}),
    "one slot is missing": drop(*M),
    "slots are renamed": renamed,
    "numbers as strings": keys_as_strings,
    "slots of another weight": slots_of_another_weight,
    "a slot is a string": put(*M, "x"),
    "a slot is None": put(*M, None),
    "a slot is a number": put(*M, 1.0),
    "a slot of whole numbers": put(*M, torch.zeros(SHAPE, dtype=torch.int32)),
    "a slot of another precision": put(*M, torch.zeros(SHAPE, dtype=torch.float64)),
    "a slot of complex numbers": put(*M, torch.zeros(SHAPE, dtype=torch.complex64)),
    "a slot that is sparse": put(*M, torch.zeros(SHAPE).to_sparse()),
    "a slot without values": put(*M, torch.zeros(SHAPE, device="meta")),
    "a slot with NaN": put(*M, torch.full(SHAPE, torch.nan)),
    "slots of a weight too many": put(OPTIMIZER, 0, "state", 99, {"m": torch.zeros(3)}),
    "no beta1": drop(*GROUP, "beta1"),
    "no power": drop(*GROUP, "beta1_power"),
    "beta1 is a string": put(*GROUP, "beta1", "x"),
    "beta1 is NaN": put(*GROUP, "beta1", float("nan")),
    "the power is a number": put(*GROUP, "beta1_power", 0.9),
    "the power is NaN": put(*GROUP, "beta1_power", torch.tensor(torch.nan)),
    "the power has another shape": put(*GROUP, "beta1_power", torch.zeros(3)),
    "epsilon is a list": put(*GROUP, "epsilon", [1e-8]),
}


@pytest.mark.thinned
@pytest.mark.parametrize("change", SLOTS)
def test_no_run_is_continued_with_slots_of_another_form(
    refused, here, sound_adam, change
):
    """Torch's kernels do not look at shapes: some of these ended the process."""
    checkpoint = copy.deepcopy(sound_adam)
    SLOTS[change](checkpoint)
    torch.save(checkpoint, here / "other.ckpt")
    refused(f"fit --ckpt_path other.ckpt {QUIET} --trainer.max_steps 2")


@pytest.mark.parametrize("command", ["fit", "test", "validate"])
def test_several_devices_refuse_a_checkpoint_in_one_line_too(
    refused, here, sound, command
):
    checkpoint = copy.deepcopy(sound)
    put("state_dict", "net.more", torch.zeros(3))(checkpoint)
    torch.save(checkpoint, here / "other.ckpt")
    line = f"{command} --ckpt_path other.ckpt {QUIET} --trainer.devices 2"
    assert "it has net.more, the model has not" in refused(line)


CONTENTS = [None, 5, "x", [1], (), {}, {1: 2}, torch.zeros(3), {"state_dict": {}}]


@pytest.mark.thinned
@pytest.mark.parametrize("content", CONTENTS, ids=repr)
@pytest.mark.parametrize("command", ["test", "predict", "validate", "fit"])
def test_a_file_of_torch_that_is_no_checkpoint_is_refused(
    refused, here, command, content
):
    torch.save(content, here / "other.ckpt")
    refused(f"{command} --ckpt_path other.ckpt {QUIET}")


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
@pytest.mark.parametrize("kind", [Classifier, MnistData])
def test_neither_class_is_made_from_what_is_no_checkpoint(tmp_path, kind, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt: "):
        kind.load_from_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_a_checkpoint_that_was_cut_is_refused(refused, here, sound, size):
    torch.save(sound, here / "whole.ckpt")
    (here / "cut.ckpt").write_bytes((here / "whole.ckpt").read_bytes()[:size])
    refused(f"test --ckpt_path cut.ckpt {QUIET}")


def test_the_reason_why_a_checkpoint_is_not_read_is_named_in_plain_words(refused, here):
    """Torch's own message has five lines, with colours, of advice to run the code."""
    torch.save({"state_dict": {}, "rate": np.float32(0.5)}, here / "numpy.ckpt")
    line = refused(f"test --ckpt_path numpy.ckpt {QUIET}")
    assert "Unsupported global: GLOBAL numpy" in line
    assert "\x1b" not in line
    assert "weights_only" not in line


# Code in a checkpoint -------------------------------------------------------------------


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def legacy(path: Path) -> None:
    torch.save({"state_dict": Bomb()}, path, _use_new_zipfile_serialization=False)


def zipped(path: Path) -> None:
    torch.save({"state_dict": Bomb()}, path)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("by", ["flag", "yaml", "last"])
@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("write", [legacy, zipped, pickled])
def test_no_code_of_a_checkpoint_is_executed(
    refused, here, monkeypatch, write, forced, by
):
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    (here / "checkpoints").mkdir()
    path = here / "checkpoints/httpbomb.ckpt"
    write(path)
    (here / "mine.yaml").write_text(f"ckpt_path: {path}")
    how = {"flag": f"--ckpt_path {path}", "yaml": "--config mine.yaml"}
    for command in ("test", "predict", "validate", "fit"):
        words = how.get(by, "--ckpt_path last")
        if (command, by) == ("fit", "last"):
            continue  # it begins at the first step
        refused(f"{command} --config softmax {words} {QUIET}")
    assert not (here / "executed").exists()


def test_a_checkpoint_on_a_server_is_not_fetched(refused, here, monkeypatch):
    def fetched(*_, **__):
        raise AssertionError("asked for")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    monkeypatch.setattr("fsspec.core.url_to_fs", fetched)
    (here / "mine.yaml").write_text("ckpt_path: http://127.0.0.1:9/bomb.ckpt")
    line = refused(f"test --config softmax --config mine.yaml {QUIET}")
    assert "copy the file here first" in line
