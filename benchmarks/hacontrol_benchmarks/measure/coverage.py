"""Certificates of policies and values whose worth is known: how many hold the truth, and whether one is too good.

Every problem with a known optimum is drawn at random (draw 0 has the defaults), and right, wrong, half-learnt and
random solutions are planted (`measure.planted`). A case ends in one of these ways:

* held: the interval holds V*, the mean of the optimum over the certificate's own initial states, and what the policy
  earns, J, where that is known; up to the errors of V* and J, and rounding (1e-9 of the value);
* missed: it does not;
* refused: `certify` raised or warned, and says why.

A certificate is too good if V* - J is larger than its gap by more than those errors and three of its standard errors.
`failed` counts certificates with a failed check, which hold and miss as others do.
"""

from __future__ import annotations

import collections
import itertools
import os
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from json import dumps, loads
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.progress import track

from hacontrol_agents import certify
from hacontrol_benchmarks.measure import calibrations, measured
from hacontrol_benchmarks.measure.planted import Kinds, Planted, Worth, brock_mirman, firm, learnt, lqr, merton

ROUNDING = 1e-9
"""Error of every interval, relative to the size of the value."""
NOISE = 3.0
"""Standard errors by which a lower bound may exceed J before the certificate counts as too good."""
SLOW = 12
"""Draws for each one of slow cases."""
EVALUATIONS = 200_000
"""About how many points a certificate may evaluate in simulation, a fifth of the default."""
STRIDE = 1_000_000
"""Distance between the numbers of draws that are tried until one has the size that is asked for."""
Drawn = tuple[str, dict[str, Any]]


class Subject(NamedTuple):
    """A problem with a known optimum, and what is planted there."""

    draw: Callable[[int, int], Drawn]
    """Function of a seed and a number to the id of an environment and parameters."""
    planted: Kinds
    """What is made of the problem."""
    learnt: Kinds
    """What is made of the environment, by learning."""
    slow: bool = False
    """Whether all its cases are slow."""


class Verdict(NamedTuple):
    """What an interval says and what is true."""

    held: bool
    """Whether the interval holds V*, and J where that is known."""
    too_good: bool
    """Whether the policy loses more than the interval says."""


def verdict(interval: tuple[float, float], best: Worth, earned: Worth | None, noise: float, rounding: float) -> Verdict:
    """Judge an interval.

    Args:
        interval: lower and upper bound.
        best: V*.
        earned: J; None where it is not known.
        noise: standard error of the lower bound.
        rounding: what is rounding.
    """
    lower, upper = interval
    worths = [best] if earned is None else [best, earned]
    held = all(lower - one.error - rounding <= one.mean <= upper + one.error + rounding for one in worths)
    if earned is None:
        return Verdict(held, False)
    error = best.error + earned.error + rounding + NOISE * noise
    return Verdict(held, not best.mean - earned.mean <= upper - lower + error)


def _drawn(name: str, size: str = "", sizes: tuple[int, int] = (0, 0)) -> Callable[[int, int], Drawn]:
    """Return the draws of `calibrations` whose size is in a range, and the problem's defaults for draw 0.

    Args:
        name: one of `calibrations.DRAWS`.
        size: the parameter whose length is the size; empty where all draws are taken.
        sizes: least and largest size; where the least is above one there are no defaults.
    """

    def draw(seed: int, index: int) -> Drawn:
        if index == 0 and sizes[0] <= 1:
            return calibrations.DRAWS[name][0], {}
        found = (calibrations.drawn(name, seed, number) for number in itertools.count(index, STRIDE))
        return next(one for one in found if not size or sizes[0] <= len(one[1][size]) <= sizes[1])

    return draw


def _over_a_horizon(draw: Callable[[int, int], Drawn], longest: float, terminal: str) -> Callable[[int, int], Drawn]:
    """Return the same draws over a finite horizon.

    Args:
        draw: the draws.
        longest: the longest horizon; the shortest is a thirtieth of it.
        terminal: the parameter that weighs the reward at the end, drawn between .1 and 3.
    """

    def timed(seed: int, index: int) -> Drawn:
        id, parameters = draw(seed, index)
        rng = np.random.default_rng([seed, index, 1])
        horizon = 0.5 * np.ceil(2 * longest * 30 ** -rng.random())  # which steps of .02 and .25 divide
        return id, {**parameters, "horizon": float(horizon), terminal: float(0.1 * 30 ** rng.random())}

    return timed


def _brock_mirman(seed: int, index: int) -> Drawn:
    rng = np.random.default_rng([seed, index])
    drawn = {
        "discount_factor": 1 - 0.02 * 8 ** rng.random(),
        "capital_share": float(rng.uniform(0.15, 0.7)),
        "productivity_persistence": float(rng.uniform(-0.5, 0.95)),
        "productivity_deviation": 0.01 * 20 ** rng.random(),
    }
    return "BrockMirman-v0", drawn if index else {}


LINEAR, PORTFOLIO = _drawn("lqr", "state_matrix", (1, 2)), _drawn("merton", "expected_return", (1, 1))
"""Draws with one or two states, and with one asset."""
SUBJECTS = {
    "lqr": Subject(LINEAR, lqr.KINDS, learnt.STATIONARY),
    "lqr, finite": Subject(_over_a_horizon(LINEAR, 9.0, "terminal_cost"), lqr.FINITE, learnt.CONTINUOUS, slow=True),
    "merton": Subject(PORTFOLIO, merton.KINDS, learnt.STATIONARY),
    "merton, 2 or 3 assets": Subject(_drawn("merton", "expected_return", (2, 3)), merton.KINDS, {}, slow=True),
    "merton, finite": Subject(_over_a_horizon(PORTFOLIO, 30.0, "bequest"), merton.FINITE, learnt.CONTINUOUS, slow=True),
    "firm": Subject(_drawn("firm"), firm.KINDS, learnt.STATIONARY, slow=True),
    "brock-mirman": Subject(_brock_mirman, brock_mirman.KINDS, learnt.DISCRETE),
}
"""By name."""


class Task(NamedTuple):
    """What determines a case."""

    subject: str
    """One of `SUBJECTS`."""
    kind: str
    """What is planted."""
    seed: int
    """Seed of the draws."""
    draw: int
    """Number of the draw."""


def judged(task: Task) -> dict[str, Any]:
    """Return what a certificate says of one case, what is true, and its CPU seconds."""
    torch.set_num_threads(1)
    started, subject = time.process_time(), SUBJECTS[task.subject]
    id, parameters = subject.draw(task.seed, task.draw)
    env, rng = (
        gym.make(id, **parameters),
        np.random.default_rng([task.seed, task.draw, zlib.crc32(task.kind.encode())]),
    )
    problem: Any = env.unwrapped.problem  # type: ignore[attr-defined]
    found: dict[str, Any] = {**task._asdict(), "parameters": parameters}
    planted = (
        subject.planted[task.kind](problem, rng)
        if task.kind in subject.planted
        else subject.learnt[task.kind](env, rng)
    )
    made = time.process_time()
    found |= certified(planted, problem, task.draw)
    return {**found, "making": made - started, "cpu_seconds": time.process_time() - started}


def certified(planted: Planted, problem: Any, seed: int) -> dict[str, Any]:
    """Return what a certificate says and what is true, and how that ended.

    Args:
        planted: what is certified.
        problem: the problem.
        seed: seed of the certificate.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = certify(planted.agent, problem, seed=seed, evaluations=EVALUATIONS)
    except Exception as error:  # whatever it is, it is no certificate
        return {"way": "refused", "reason": f"{type(error).__name__}: {error}"[:300]}
    optimum = problem.solution()
    values = np.asarray(optimum.value(np.zeros(len(found.starts)), found.starts))
    best, size = Worth(float(values.mean()), optimum.error), float(np.abs(values).mean())
    earned = None if planted.worth is None else planted.worth(found.starts)
    said = verdict((found.lower, found.upper), best, earned, found.standard_error, ROUNDING * size)
    return {
        "way": "held" if said.held else "missed",
        "too_good": said.too_good,
        "lower": found.lower,
        "upper": found.upper,
        "best": best.mean,
        "earned": None if earned is None else earned.mean,
        "error": best.error + (0.0 if earned is None else earned.error),
        "noise": found.standard_error,
        "size": size,
        "relative_gap": found.gap / size if np.isfinite(found.gap) else np.inf,
        "failed": list(found.failed),
    }


def tasks(subjects: list[str], draws: int, seed: int) -> list[Task]:
    """Return all cases by number of the draw, slow ones last, and with fewer draws.

    Args:
        subjects: names of problems.
        draws: number of draws for each kind of solution that is not slow.
        seed: seed of the draws.
    """
    found = []
    for name in subjects:
        subject = SUBJECTS[name]
        for kind in [*subject.planted, *subject.learnt]:
            few = subject.slow or kind in subject.learnt
            found += [Task(name, kind, seed, index) for index in range(max(1, draws // SLOW) if few else draws)]
    return sorted(found, key=lambda task: (SUBJECTS[task.subject].slow, task.draw))


def measure(every: list[Task], workers: int, kept: Path | None, more: bool = True) -> list[dict[str, Any]]:
    """Return what `judged` does of all cases, in their order.

    Args:
        every: the cases.
        workers: number of processes.
        kept: a file of JSON lines to which cases are written as they end; those that it has are not repeated. None for
            no file.
        more: whether to judge cases that the file lacks; otherwise they are left out.
    """
    lines = kept.read_bytes().splitlines() if kept is not None and kept.exists() else []
    found = {Task(*(one[name] for name in Task._fields)): one for one in map(loads, lines)}
    left = [task for task in every if task not in found] if more else []
    with ProcessPoolExecutor(workers) as pool, (kept or Path(os.devnull)).open("ab") as file:
        for task, case in zip(left, track(pool.map(judged, left), "certificates", len(left)), strict=True):
            line = dumps(case, default=float)
            found[task] = loads(line)
            file.write(f"{line}\n".encode())
            file.flush()
    return [found[task] for task in every if task in found]


def row(subject: str, kind: str, cases: list[dict[str, Any]]) -> measured.Row:
    """Return the row of a problem and a kind of solution, or of all: counts, the median gap and CPU seconds.

    Args:
        subject: name of the problem.
        kind: what was planted.
        cases: what `judged` returned.
    """
    ways = collections.Counter(one["way"] for one in cases)
    answered = [one for one in cases if one["way"] != "refused"]
    too_good = sum(one["too_good"] for one in answered)
    gaps = [one["relative_gap"] for one in answered]
    return {
        "problem": subject,
        "kind": kind,
        "cases": len(cases),
        **{way: ways[way] for way in ("held", "missed", "refused")},
        "too_good": too_good,
        "failed": sum(bool(one["failed"]) for one in answered),
        "median_gap": float(np.quantile(gaps, 0.5, method="nearest")) if gaps else np.inf,
        "cpu_seconds": sum(one["cpu_seconds"] for one in cases),
    }


def rows(cases: list[dict[str, Any]]) -> list[measured.Row]:
    """Return a row for each problem and kind of solution, and one for all, which has the target."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for one in cases:
        groups[one["subject"], one["kind"]].append(one)
    whole = row("all", "", cases)
    answered = whole["held"] + whole["missed"]
    whole["met"] = answered > 0 and whole["held"] >= 0.95 * answered and not whole["too_good"]
    whole["wrong"] = [one for one in cases if one["way"] != "held" or one["too_good"]]
    return [*(row(*key, group) for key, group in groups.items()), whole]


COLUMNS = {
    "problem": "{problem}",
    "planted": "{kind}",
    "cases": "{cases}",
    "held": "{held}",
    "missed": "{missed}",
    "refused": "{refused}",
    "too good": "{too_good}",
    "failed": "{failed}",
    "median gap": "{median_gap:.1e}",
    "CPU, s": "{cpu_seconds:.0f}",
}


def main(
    problem: list[str] | None = None,
    draws: int = 12,
    seed: int = 0,
    workers: int = 2,
    cases: Path | None = None,
    more: bool = True,
    json: Path | None = None,
) -> int:
    """Certify right and wrong solutions; return 1 where fewer than 95 % hold the truth, or one is too good.

    Args:
        problem: names of problems; all of them by default.
        draws: number of draws of each problem for each kind of solution; a twelfth, and at least one, for slow ones.
        seed: seed of the draws.
        workers: number of processes.
        cases: a file to which cases are written as they end, and from which a run goes on.
        more: whether to judge cases that the file `cases` lacks; otherwise what it has is reported.
        json: a file to write the figures to.
    """
    chosen = problem or list(SUBJECTS)
    every = tasks(chosen, draws, seed)
    found = measure(every, workers, cases, more)
    settings = {"problems": chosen, "draws": draws, "seed": seed, "evaluations": EVALUATIONS}
    settings |= {"cases": len(found), "of": len(every)}
    return measured.report("measure.coverage", rows(found), COLUMNS, settings, json, "95 % held, none too good")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
