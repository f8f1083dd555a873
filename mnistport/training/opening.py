"""How the help of each command begins: examples, and what people need most."""

FIT = """\
usage: mnistport fit --config NAME|FILE [options]

Train a network, and score it on the test set.

  mnistport fit --config hvass                    train as the tutorial did
  mnistport fit --config hvass --max-steps 100 --data.source digits
                                                  a first look, without a download
  mnistport fit --config hvass --ckpt_path last   go on with the run that was stopped

  --config NAME|FILE         a tutorial's name (see `mnistport list`) or a YAML file
  --max-steps N              optimizer steps; another name for --trainer.max_steps
  --data.source SOURCE       auto, mnist, fashion, or digits, which need no download
  --data.dir DIR             the folder of the data set
  --model.options.NAME X     an option of the network, such as fc_size
  --model.optimizer NAME     another optimizer; --model.learning_rate goes with it
  --like intended|torch      what the author meant; what a port to PyTorch often does
  --seed_everything N        other initial weights, batches and dropouts (default: 0)
  --trainer.accelerator X    cpu, or cuda for a GPU; --trainer.devices N for several
  --pictures, --show_shapes  draw pictures; print the shape of each stage
  --quiet                    print the tutorial's lines, warnings and errors alone
  --print_config             print every setting as YAML, and do not train

All options follow. Those of the Trainer are Lightning's.

"""

SCORE = """\
usage: mnistport {command} --ckpt_path FILE|last [options]

Score a trained network on the {part} set.

  mnistport {command} --ckpt_path last                 the newest run here
  mnistport {command} --ckpt_path last --config deep   the newest run of this network

  --ckpt_path FILE       a checkpoint that `mnistport fit` wrote
  --data.source SOURCE   auto, mnist, fashion or digits; default: as it was trained
  --data.dir DIR         the folder of the data set
  --quiet                print results, warnings and errors alone

All options follow. Those of the Trainer are Lightning's.

"""

PREDICT = """\
usage: mnistport predict --ckpt_path FILE|last [--images FILE ...] [options]

Print the class of each test image, one on a line, or the class of your own digits.

  mnistport predict --ckpt_path last                     the test images, in order
  mnistport predict --ckpt_path last --images mine.jpg   a photograph of your own digit

  --ckpt_path FILE       a checkpoint that `mnistport fit` wrote
  --images FILE ...      your own digits; `mnistport predict --images --help` tells more
  --data.source SOURCE   auto, mnist, fashion or digits; default: as it was trained
  --data.dir DIR         the folder of the data set
  --quiet                print results, warnings and errors alone

All options follow. Those of the Trainer are Lightning's.

"""

OPENINGS = {
    "fit": FIT,
    "validate": SCORE.format(command="validate", part="validation"),
    "test": SCORE.format(command="test", part="test"),
    "predict": PREDICT,
}
"""The opening of each command's help."""
