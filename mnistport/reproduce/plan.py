"""What the command line asks for: the runs to make, and the engine that makes them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from mnistport import networks
from mnistport.data.batches import STREAMS
from mnistport.data.sources import load
from mnistport.errors import UserError
from mnistport.files import partial_folder
from mnistport.network import Network
from mnistport.optimizers.choosing import chosen
from mnistport.reproduce.devices import devices_for
from mnistport.reproduce.engine import Engine, loky
from mnistport.reproduce.job import Job
from mnistport.reproduce.options import option_sets
from mnistport.reproduce.task import Task
from mnistport.settings import of_data, of_model
from mnistport.values import choice, positive_number


@contextmanager
def planned(args: argparse.Namespace) -> Iterator[tuple[list[Job], Task, Engine]]:
    """The runs, the task that makes one, and the engine that makes all, for the block.

    Raises:
        UserError: A network, option, device, data set or cluster cannot be used.
    """
    if args.scheduler is None:
        yield _on_this_machine(args)
        return
    if args.jobs is not None:
        raise UserError(
            "--jobs is for this machine; how many runs a Dask worker takes at a time is "
            "said where it is started: dask worker --nthreads N"
        )
    with _on_cluster(args) as found:
        yield found


def _on_this_machine(args: argparse.Namespace) -> tuple[list[Job], Task, Engine]:
    devices = devices_for(args.device)
    at_once = args.jobs or len(devices)  # the CPU is one device
    if devices != ["cpu"] and at_once > len(devices):
        raise UserError(
            f"--jobs {at_once}: one run at a time on a GPU, and there are {len(devices)}"
        )
    kind = args.device if ":" in args.device else devices[0].partition(":")[0]
    jobs = _jobs(args, kind, at_once)
    task = Task(
        folder=args.out.resolve(),
        progress=at_once == 1 and sys.stdout.isatty(),
        owner=os.getpid(),
    )
    return jobs, task, loky(min(at_once, len(jobs)))


@contextmanager
def _on_cluster(args: argparse.Namespace) -> Iterator[tuple[list[Job], Task, Engine]]:
    from mnistport.reproduce import cluster
    from mnistport.reproduce.workers import Wanted, facts

    client = cluster.connect(args.scheduler)
    try:
        kind = cluster.kind_of_device(client, args.device)
        jobs = _jobs(args, kind, at_once=1)
        args.out.mkdir(parents=True, exist_ok=True)
        with partial_folder(args.out.resolve() / "workers") as mark:
            wanted = Wanted(
                source=jobs[0].source,
                directory=jobs[0].directory,
                mark=mark,
                facts=facts(jobs[0].source, jobs[0].directory),
            )
            at_once = cluster.refuse_unlike_workers(client, wanted)
            cluster.disconnect(client)
            print(
                f"{len(jobs)} runs on the workers of {args.scheduler}: {at_once} at a "
                f"time, each with {jobs[0].threads} threads of torch",
                flush=True,
            )
            task = Task(folder=args.out.resolve(), check=wanted.check)
            yield jobs, task, cluster.dask(args.scheduler)
    finally:
        cluster.disconnect(client)


def _jobs(args: argparse.Namespace, device: str, at_once: int) -> list[Job]:
    """One job for each network, set of options and seed, on the same data set.

    The data set is loaded here once, so that "auto" means the same for all runs.
    """
    names = _network_names(args.networks)
    options = option_sets(args.options)
    _refuse_options(names, options)
    data = load(args.source, args.directory)
    first = Job(
        network=names[0],
        seed=0,
        source=data.name,
        directory=None if data.name == "digits" else data.origin,
        max_steps=args.max_steps,
        device=device,
        threads=args.threads or max(1, torch.get_num_threads() // at_once),
    )
    return [
        replace(first, network=name, options=chosen, seed=seed)
        for name in names
        for chosen in options
        for seed in range(args.seeds)
    ]


def _network_names(asked: Sequence[str]) -> list[str]:
    """The networks asked for, each once; or all. An unknown name is a UserError."""
    names = list(dict.fromkeys(asked or networks.names()))
    for name in names:
        networks.get(name)
    return names


def _refuse_options(names: Sequence[str], options: Sequence[Mapping[str, Any]]) -> None:
    """Make each network with each set of options, to see whether that can be done."""
    for name in names:
        for one in options:
            if one:
                _refuse_settings(networks.get(name), one)


def _refuse_settings(network: Network, settings: Mapping[str, Any]) -> None:
    model, data = of_model(settings), of_data(settings)
    networks.make_module(network, model["options"] or {})
    rate = model["learning_rate"]
    if rate is not None:
        positive_number("model.learning_rate", rate)
    recipes = network.recipe.optimizer
    chosen(recipes, model["optimizer"], rate, model["optimizer_options"])
    if data["stream"] is not None:
        choice("data.stream", data["stream"], STREAMS)
