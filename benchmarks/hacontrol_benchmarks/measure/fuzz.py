"""Check that hostile input to hacontrol is accepted or refused in one sentence, and runs nothing.

Doors are the constructors of every registered problem and economy, the hyperparameters of every agent, suites, command
lines, result files and saved agents. An input is a valid one with a few of its values replaced by hostile ones, or with
bytes altered; files are sealed again, so that the seal hides nothing. Its outcome is "accepted", "refused" (one line of
an error of ours, of a bounded length, or tyro's exit code 2), or a fault: any other exception, more than
SECONDS, or more memory than GIGABYTES in the process that tries them all.

Forged files try, besides, to run code in every way that a file of ours could name it: each names a module that leaves a
file behind when it is imported, or carries a pickle that does. None may run.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tyro

from hacontrol_benchmarks.measure import measured
from hacontrol_benchmarks.measure.forged_files import EVIL, SENTINEL, forgeries
from hacontrol_benchmarks.measure.hostile_inputs import DOORS, Rng, Try, refuse_lines, warm
from hacontrol_envs.errors import HacontrolError

SECONDS = 30
"""Most seconds of an input."""
GIGABYTES = 1.0
"""Most memory of a process, in 10^9 bytes."""
SHARES = {
    "constructors": 0.1,
    "hyperparameters": 0.1,
    "suites": 0.25,
    "commands": 0.05,
    "results": 0.35,
    "checkpoints": 0.15,
}
"""Share of each door in the inputs; larger where an input costs less."""
CHUNK = 1000
"""Number of inputs that a worker is given at a time."""


class TooLong(BaseException):
    """An input took more than SECONDS; no handler of errors may swallow it."""


def outcome(door: Try, rng: Rng, folder: Path) -> str:
    """Try one input at a door, and return "accepted", "refused", or the fault.

    Args:
        door: function that makes the input and tries it.
        rng: source of random numbers.
        folder: folder for the input's files.
    """

    def late(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(
        signal.ITIMER_REAL, SECONDS, 1.0
    )  # again and again: a callback of compiled code swallows the first
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            door(rng, folder)
    except HacontrolError as error:
        try:
            refuse_lines(str(error))
        except AssertionError as fault:
            return f"{fault}"
        return "refused"
    except TooLong:
        return f"more than {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return "accepted"


def measure(inputs: int, seed: int, workers: int = 0) -> list[measured.Row]:
    """Return a row for each door, one for the forged files, and one for the largest memory of a process.

    Args:
        inputs: number of inputs, shared out among the doors by SHARES.
        seed: seed of the inputs.
        workers: number of processes that work in parallel; 0 for this one.
    """
    chunks = [(name, number, seed) for name, share in SHARES.items() for number in _chunks(round(inputs * share))]
    if workers:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            tried = list(pool.map(_try, chunks))
    else:
        tried = list(map(_try, chunks))
    rows = [_row(name, sum((found for door, found, _ in tried if door == name), Counter())) for name in SHARES]
    with tempfile.TemporaryDirectory() as folder, _in(folder):
        rows.append(_forgery_row(Path(folder)))
    peak = max(_peak(), *(peak for _, _, peak in tried))
    memory = {"what": "gigabytes at most", "inputs": "", "accepted": "", "refused": "", "faults": f"{peak:.2f}"}
    return [*rows, {**memory, "peak": peak, "met": peak < GIGABYTES}]


def _chunks(inputs: int) -> Iterator[tuple[int, int]]:
    """(number, size) of parts of at most CHUNK inputs."""
    for number, start in enumerate(range(0, inputs, CHUNK)):
        yield number, min(CHUNK, inputs - start)


def _try(chunk: tuple[str, tuple[int, int], int]) -> tuple[str, Counter[str], float]:
    """The door, what came of the chunk's inputs, and the gigabytes of this process so far."""
    name, (number, size), seed = chunk
    warm()
    rng = np.random.default_rng([seed, list(SHARES).index(name), number])
    with tempfile.TemporaryDirectory() as folder, _in(folder):
        found = Counter(outcome(DOORS[name], rng, Path(folder)) for _ in range(size))
    return name, found, _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _row(what: str, found: Counter[str]) -> measured.Row:
    faults = {fault: times for fault, times in found.most_common() if fault not in ("accepted", "refused")}
    good = {"accepted": found["accepted"], "refused": found["refused"], "faults": sum(faults.values())}
    return {"what": what, "inputs": found.total(), **good, "which": faults, "met": not faults}


def _forgery_row(folder: Path) -> measured.Row:
    (folder / "evil_module.py").write_text(EVIL)
    os.environ[SENTINEL] = str(folder / "sentinel")
    sys.path.insert(0, str(folder))
    try:
        tried = [outcome(partial(_opened, forged), np.random.default_rng(0), folder) for forged in forgeries()]
    finally:
        sys.path.remove(str(folder))
    ran = len((folder / "sentinel").read_text()) if (folder / "sentinel").exists() else 0
    row = _row("forged files", Counter(tried))
    return {**row, "faults": row["faults"] + ran, "commands run": ran, "met": row["met"] and not ran}


def _opened(forged: Callable[[Path], None], _: Rng, folder: Path) -> None:
    forged(folder)


@contextlib.contextmanager
def _in(place: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def main(inputs: int = 20_000, seed: int = 0, workers: int = 2, json: Path | None = None) -> int:
    """Try hostile inputs at every door, and forged files.

    Args:
        inputs: number of inputs, shared out among the doors.
        seed: seed of the inputs.
        workers: number of processes that work in parallel.
        json: a file to write the figures to.
    """
    columns = {
        "": "{what}",
        "inputs": "{inputs}",
        "accepted": "{accepted}",
        "refused": "{refused}",
        "faults": "{faults}",
    }
    note = "Accepted, or refused in one sentence; a fault is anything else. Of forged files: commands that ran."
    return measured.report(
        "measure.fuzz", measure(inputs, seed, workers), columns, {"inputs": inputs, "seed": seed}, json, note
    )


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main))
    except HacontrolError as error:
        sys.exit(f"measure.fuzz: {error}")
