"""Threads that wait for one another sleep at once while the machine is busy."""

import gc
import sys
import threading
import time

import pytest
import torch

from mnistport.speed import waiting
from mnistport.speed.waiting import Waiting, seconds_without_a_core


@pytest.fixture
def threads_of_all_cores(monkeypatch):
    monkeypatch.delenv("MNISTPORT_TUNE", raising=False)
    monkeypatch.setattr(waiting, "cores", torch.get_num_threads)
    monkeypatch.setattr(waiting, "SECONDS", 0.0)


@pytest.fixture
def waited(monkeypatch):
    """`waited(0.5)`: each look finds that so much of the time a core was missing."""
    state = {"share": 0.0, "seconds": 0.0, "looked": time.monotonic()}

    def seconds():
        now = time.monotonic()
        state["seconds"] += state["share"] * (now - state["looked"])
        state["looked"] = now
        return state["seconds"]

    monkeypatch.setattr(waiting, "seconds_without_a_core", seconds)
    return lambda share: state.update(share=share)


def teams():
    return [one for one in threading.enumerate() if one.name.startswith("busy machine")]


def looks(one, count=3):
    for _ in range(count):
        time.sleep(0.01)
        one.look()


def ends(thread):
    thread.join(5)
    return not thread.is_alive()


def test_a_team_is_there_while_the_machine_is_busy(threads_of_all_cores, waited):
    one = Waiting()
    looks(one)
    assert teams() == []
    waited(0.5)
    looks(one)
    (team,) = teams()
    waited(0.0)
    looks(one)
    assert ends(team)
    assert teams() == []


def test_the_team_ends_with_the_engine(threads_of_all_cores, waited):
    one = Waiting()
    waited(0.5)
    looks(one)
    (team,) = teams()
    del one
    gc.collect()
    assert ends(team)


@pytest.mark.parametrize("why", ["MNISTPORT_TUNE=0", "few threads", "not told"])
def test_nothing_is_done(why, threads_of_all_cores, waited, monkeypatch):
    if why == "MNISTPORT_TUNE=0":
        monkeypatch.setenv("MNISTPORT_TUNE", "0")
    elif why == "few threads":
        monkeypatch.setattr(waiting, "cores", lambda: torch.get_num_threads() + 1)
    else:
        monkeypatch.setattr(waiting, "seconds_without_a_core", lambda: None)
    one = Waiting()
    waited(0.5)
    looks(one)
    assert teams() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_system_tells_how_long_threads_wait():
    before = seconds_without_a_core()
    if before is None:
        pytest.skip("this system does not tell")
    over = threading.Event()
    others = [threading.Thread(target=over.wait) for _ in range(2)]
    for other in others:
        other.start()
    assert seconds_without_a_core() >= before
    over.set()
    for other in others:
        other.join()
