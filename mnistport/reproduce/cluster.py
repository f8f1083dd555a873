"""A Dask cluster as the engine: connecting to it, and refusing workers that differ."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from mnistport.errors import UserError
from mnistport.reproduce.engine import Engine, WorkersLostError, no_ctrl_c_for_workers
from mnistport.reproduce.workers import Wanted, gpus

SECONDS_TO_ANSWER = 5


def dask(address: str) -> Engine:
    """The workers of a Dask scheduler. Each round connects anew, and leaves nothing."""
    return partial(_round, address)


@contextmanager
def _round(address: str) -> Iterator[dict[str, Any]]:
    try:
        client = connect(address)
    except UserError as error:
        raise WorkersLostError(str(error)) from error
    try:
        yield {"backend": backend(client), "n_jobs": -1, "pre_dispatch": "all"}
    finally:
        disconnect(client)


def connect(address: str) -> Any:
    """Make a `distributed.Client`.

    Raises:
        UserError: Dask is not installed, or no scheduler answers at this address.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise UserError(
            f"--scheduler needs Dask, and {error.name} is not installed; "
            "install it: pip install 'mnistport[cluster]'"
        ) from error
    _silence()
    try:
        # A Client waits forever for a program that listens, and is no scheduler.
        asyncio.run(asyncio.wait_for(_knock(address), SECONDS_TO_ANSWER))
        with no_ctrl_c_for_workers():
            return Client(  # type: ignore[no-untyped-call]
                address, timeout=SECONDS_TO_ANSWER, set_as_default=False
            )
    except (OSError, ValueError, TypeError) as error:
        reason = str(error) or f"no answer within {SECONDS_TO_ANSWER} seconds"
        raise UserError(
            f"--scheduler {address}: no Dask scheduler answers there; start one with "
            f"`dask scheduler`, and give the address it prints ({reason})"
        ) from error


def _silence() -> None:
    """Let Dask log nothing here. What it would say at length is said in one line."""
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("distributed", "asyncio", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


async def _knock(address: str) -> None:
    from distributed.comm.core import connect

    comm = await connect(address)  # type: ignore[no-untyped-call]
    comm.abort()


def disconnect(client: Any) -> None:
    """Close a client. The cluster cancels the tasks that it still has."""
    client.close(timeout=SECONDS_TO_ANSWER)


def backend(client: Any) -> Any:
    """joblib's Dask backend, which also notices tasks that the cluster gives up.

    joblib's own does not call back if a task ends in an error of the cluster, so that
    the results would be waited for forever.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            # For 1, joblib would make the runs in this process, and not on the worker.
            return max(2, int(super().effective_n_jobs(n_jobs)))

        def submit(self, func: Any, callback: Any = None) -> Any:
            submitted = super().submit(func, callback)

            def call_back_if_given_up(done: Future[Any]) -> None:
                if done.exception() is not None:
                    callback(done)

            submitted.add_done_callback(call_back_if_given_up)
            return submitted

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, Future):
                raise WorkersLostError(_in_words(out.exception()))
            try:
                result = super().retrieve_result_callback(out)
            except Exception as error:
                raise WorkersLostError(_in_words(error)) from error
            if not isinstance(result, list):  # the scheduler is gone
                raise WorkersLostError(f"the cluster gave up the task ({result})")
            return result

    return Backend(client=client)


def _in_words(error: BaseException | None) -> str:
    return f"the cluster gave up a task: {' '.join(str(error).split())}"


def refuse_unlike_workers(client: Any, wanted: Wanted) -> int:
    """Compare each worker with this process.

    Returns:
        How many tasks the workers take at once.

    Raises:
        UserError: There are no workers, or one differs. Says which, and in what.
    """
    _ask_all(client, wanted.check)
    return sum(client.nthreads().values())


def kind_of_device(client: Any, asked: str) -> str:
    """What an answer to `--device` stands for on the workers: "cpu" or "cuda".

    Raises:
        UserError: The workers have no such device, or not all of them have it.
    """
    if asked == "cpu":
        return asked
    if asked not in ("cuda", "auto"):
        raise UserError(
            f"--device {asked}: on a cluster, each run takes a device that is free; "
            "use cpu, cuda or auto"
        )
    counts = _ask_all(client, gpus)
    without = [address for address, count in counts.items() if not count]
    if asked == "auto" and len(without) == len(counts):
        return "cpu"
    if without:
        raise UserError(
            f"--device {asked}: torch sees no CUDA device on the workers "
            f"{', '.join(without)}; use --device cpu, or leave these workers out"
        )
    return "cuda"


def _ask_all(client: Any, question: Callable[[], Any]) -> dict[str, Any]:
    """The answers of all workers, by their addresses.

    Raises:
        UserError: There are no workers, or one cannot answer.
    """
    answers = client.run(question, on_error="return")
    if not answers:
        raise UserError(
            f"--scheduler {client.scheduler.address}: has no workers; "
            f"start some with `dask worker {client.scheduler.address}`"
        )
    for address, answer in answers.items():
        if isinstance(answer, BaseException):
            raise UserError(f"the worker {address} cannot take part: {answer}")
    return dict(answers)
