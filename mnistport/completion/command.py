"""`mnistport completion`: the script of a shell for all commands of `mnistport`."""

from __future__ import annotations

import argparse

from mnistport import networks
from mnistport.completion import options
from mnistport.completion.script import script
from mnistport.data.batches import STREAMS
from mnistport.data.sources import SOURCES
from mnistport.drawings.options import parser as predict_own
from mnistport.expected import parser as expected
from mnistport.export.options import parser as export
from mnistport.optimizers.choosing import KNOWN
from mnistport.plot.options import parser as plot
from mnistport.reproduce.options import parser as reproduce
from mnistport.training.lightning_cli import parser_of
from mnistport.training.likeness import DEPARTS


def complete(args: argparse.Namespace) -> int:
    """Print the script for a shell. Returns the exit status."""
    short = argparse.ArgumentParser(description="Train a network.")
    short.add_argument("--max-steps", help="another name for --trainer.max_steps")
    commands: dict[str, list[argparse.ArgumentParser]] = {
        "list": [],
        "fit": [short, parser_of("fit")],
        "validate": [parser_of("validate")],
        "test": [parser_of("test")],
        "predict": [predict_own(), parser_of("predict")],
        "expected": [expected()],
        "plot": [plot()],
        "export": [export()],
        "reproduce": [reproduce()],
        "completion": [options.parser()],
    }
    words = {
        "--model.network": networks.names(),
        "networks": networks.names(),
        "network": networks.names(),
        "--data.source": SOURCES,
        "--data.stream": list(STREAMS),
        "--like": list(DEPARTS),
        "--model.optimizer": list(KNOWN),
        "--trainer.accelerator": ["auto", "cpu", "cuda"],
    }
    words_or_files = {
        "--config": networks.names(),
        "--ckpt_path": ["last", "best"],
        "checkpoint": ["last"],
    }
    print(script("mnistport", commands, args.shell, words, words_or_files))
    return 0
