"""Whether whatever is written into a door of hacontrol is accepted or refused in one sentence, and runs nothing.

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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tyro

from hacontrol_benchmarks import measured
from hacontrol_benchmarks.forged_files import EVIL, SENTINEL, forgeries
from hacontrol_benchmarks.hostile_inputs import DOORS, Rng, Try, refuse_lines
from hacontrol_envs.errors import HacontrolError

SECONDS = 30
GIGABYTES = 1.0


class TooLong(BaseException):
    """An input took more than SECONDS; no handler of errors may swallow it."""


def outcome(door: Try, rng: Rng, folder: Path) -> str:
    """What comes of an input: "accepted", "refused", or the fault."""

    def late(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)  # again and again: a callback of compiled code swallows the first
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


def measure(inputs: int, seed: int, doors: tuple[str, ...] = tuple(DOORS)) -> list[measured.Row]:
    """A row for each door, one for the forged files, and one for memory."""
    rows: list[measured.Row] = []
    with tempfile.TemporaryDirectory() as place, _in(place):
        folder = Path(place)
        for number, name in enumerate(doors):
            rng, found = np.random.default_rng([seed, number]), Counter[str]()
            for _ in range(inputs // len(doors)):
                found[outcome(DOORS[name], rng, folder)] += 1
            faults = {what: times for what, times in found.most_common() if what not in ("accepted", "refused")}
            good = {"accepted": found["accepted"], "refused": found["refused"], "faults": sum(faults.values())}
            rows.append({"what": name, "inputs": found.total(), **good, "which": faults, "met": not faults})
        rows.append(_forgery_row(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    memory = {"what": "gigabytes at most", "inputs": "", "accepted": "", "refused": "", "faults": f"{peak:.2f}"}
    return [*rows, {**memory, "peak": peak, "met": peak < GIGABYTES}]


def _forgery_row(folder: Path) -> measured.Row:
    (folder / "evil_module.py").write_text(EVIL)
    os.environ[SENTINEL] = str(folder / "sentinel")
    sys.path.insert(0, str(folder))
    try:
        tried = [
            outcome(lambda _, where, open=open: open(where), np.random.default_rng(0), folder) for open in forgeries()
        ]
    finally:
        sys.path.remove(str(folder))
    ran = len((folder / "sentinel").read_text()) if (folder / "sentinel").exists() else 0
    found = Counter(tried)
    faults = {what: times for what, times in found.items() if what not in ("accepted", "refused")}
    good = {"accepted": found["accepted"], "refused": found["refused"], "faults": ran + sum(faults.values())}
    what = {"what": "forged files", "inputs": len(tried), **good, "commands run": ran, "which": faults}
    return {**what, "met": not ran and not faults}


@contextlib.contextmanager
def _in(place: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def main(inputs: int = 20_000, seed: int = 0, json: Path | None = None) -> int:
    """Try hostile inputs at every door, and forged files.

    Args:
        inputs: how many, shared out among the doors.
        seed: of the inputs.
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
    return measured.report("measure_fuzz", measure(inputs, seed), columns, {"inputs": inputs, "seed": seed}, json, note)


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main))
    except HacontrolError as error:
        sys.exit(f"measure_fuzz: {error}")
