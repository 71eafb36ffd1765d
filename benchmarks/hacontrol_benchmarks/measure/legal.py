"""Check that every legal parameter is answered rightly or refused, by random draws and independent checks.

For every module of `measure.judges` parameters are drawn at random, the problem or economy is solved, and the answer
is judged. Each draw ends in one of these ways:

* answered: every check passed;
* refused: an error of ours, which says why;
* wrong: a check failed;
* crashed: any other exception, or a warning that is not ours;
* slow: longer than 30 s of CPU time until the answer, its judge included.

The last three must not happen.
"""

from __future__ import annotations

import collections
import importlib
import pkgutil
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from rich.progress import track

from hacontrol_benchmarks.measure import judges, measured
from hacontrol_benchmarks.measure.judges import WrongAnswer
from hacontrol_envs.errors import HacontrolError, HacontrolWarning

LIMIT = 30.0
"""Most CPU seconds of an answer or a refusal."""
ENDINGS = ("answered", "refused", "wrong", "crashed", "slow")
"""The ways in which a draw may end."""


class Ending(NamedTuple):
    """The way in which one draw ended."""

    way: str
    """One of `ENDINGS`."""
    seconds: float
    """CPU time. [s]."""
    message: str
    """Message of the exception, empty if there was none."""


def subjects() -> list[str]:
    """Return the names of all subjects."""
    return sorted(module.name for module in pkgutil.iter_modules(judges.__path__) if module.name != "draws")


def draw(subject: str, u: Callable[[], float]) -> dict[str, Any]:
    """Draw parameters of a subject from uniform numbers u() in [0, 1]."""
    drawn: dict[str, Any] = importlib.import_module(f"{judges.__name__}.{subject}").draw(u)
    return drawn


def ending(subject: str, parameters: dict[str, Any]) -> Ending:
    """Judge a subject at these parameters, and return how that ended."""
    judge = importlib.import_module(f"{judges.__name__}.{subject}").judge
    started, way, message = time.process_time(), "answered", ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", HacontrolWarning)
            judge(parameters)
    except WrongAnswer as error:
        way, message = "wrong", str(error)
    except HacontrolError as error:
        way, message = "refused", f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever else there is, is what is looked for
        way, message = "crashed", f"{type(error).__name__}: {error}"
    seconds = time.process_time() - started
    return Ending("slow" if seconds > LIMIT and way in ("answered", "refused") else way, seconds, message)


def _one(task: tuple[str, int, int]) -> tuple[dict[str, Any], Ending]:
    subject, seed, index = task
    parameters = draw(subject, np.random.default_rng([seed, index]).random)
    return parameters, ending(subject, parameters)


def measure(subject: str, draws: int, seed: int, workers: int) -> measured.Row:
    """Return the row of one subject: how many draws ended in each way, the slowest, and the faults themselves.

    Args:
        subject: name of the subject.
        draws: number of draws.
        seed: seed of the draws; draw i depends on the seed and i alone.
        workers: number of processes.
    """
    tasks = [(subject, seed, index) for index in range(draws)]
    with ProcessPoolExecutor(workers) as pool:
        found = list(track(pool.map(_one, tasks, chunksize=4), subject, draws, transient=True))
    counts = collections.Counter(end.way for _, end in found)
    reasons = collections.Counter(end.message.split(":")[0] for _, end in found if end.way == "refused")
    faults = [
        {"parameters": parameters, "way": end.way, "message": end.message[:300], "seconds": end.seconds}
        for parameters, end in found
        if end.way not in ("answered", "refused")
    ]
    return {
        "subject": subject,
        "draws": draws,
        **{way: counts[way] for way in ENDINGS},
        "refusals": dict(reasons),
        "cpu_seconds": sum(end.seconds for _, end in found),
        "slowest": max(end.seconds for _, end in found),
        "faults": faults[:20],
        "met": not faults,
    }


COLUMNS = {
    "subject": "{subject}",
    "draws": "{draws}",
    **{way: f"{{{way}}}" for way in ENDINGS},
    "slowest, s": "{slowest:.2f}",
    "CPU, s": "{cpu_seconds:.0f}",
}


def main(
    subject: list[str] | None = None,
    draws: int = 20_000,
    seed: int = 0,
    workers: int = 2,
    json: Path | None = None,
) -> int:
    """Draw legal parameters and judge the answers; return 1 if one was wrong, crashed or slow.

    Args:
        subject: names of subjects; all of them by default.
        draws: number of draws of each subject.
        seed: seed of the draws; draw i of a subject depends on the seed and i alone.
        workers: number of processes.
        json: a file to write the figures to.
    """
    rows = [measure(name, draws, seed, workers) for name in subject or subjects()]
    settings = {"subjects": subject or subjects(), "draws": draws, "seed": seed, "workers": workers}
    return measured.report("measure.legal", rows, COLUMNS, settings, json, "answered or refused: as it must be")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
