"""Check that training that is killed at any moment ends with the weights of training that is not.

A child process trains an agent with `learn(checkpoint=FILE)`. It is sent SIGKILL after a time uniform on [0, the time
that an uninterrupted run takes] from the start of learning; every third kill waits from then on for a checkpoint to be
written, and falls while its temporary file is there. The child is started again, on the same file, until it ends by
itself. Then every tensor, and everything else that it saves apart from times, must be equal to the last bit to those of
the uninterrupted run. All this repeats until enough kills were delivered.

Learning that had ended is started once more, too: it must find nothing left to do. And the uninterrupted run's file is
altered, a bit flipped or the end cut off, many times: reading it must be refused every time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.progress import Progress

from hacontrol_agents import Agent
from hacontrol_agents.core.checkpoint import read
from hacontrol_benchmarks.measure import measured
from hacontrol_benchmarks.running.killed import Run
from hacontrol_envs.errors import CheckpointError, HacontrolError

SETTINGS = {"npi": {"iterations": 8, "visits": 64}}
"""Hyperparameters that make a run short, by agent."""


def measure(task: dict[str, Any], kills: int, flips: int) -> list[measured.Row]:
    """Return rows for kills during training, kills at its end, and altered files: how many came out as they must.

    Args:
        task: agent, env, seed, hyperparameters and budget of a run, by name.
        kills: number of kills to deliver.
        flips: number of alterations of the file.
    """
    rng = np.random.default_rng(task["seed"])
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        bar = progress.add_task("kills", total=kills)
        whole = Path(folder) / "whole"
        whole.mkdir()
        seconds = Run(task, whole).through()
        found: dict[str, Any] = {"kills": 0, "during a write": 0, "runs": 0, "same": 0}
        missed = 0
        while found["kills"] < kills:
            run, before = Run(task, Path(tempfile.mkdtemp(dir=folder))), found["kills"]
            for during in run.killed(rng, seconds, kills - before, before):
                found["kills"] += 1
                found["during a write"] += during
                progress.update(bar, advance=1)
            if found["kills"] > before:  # another run was through before its first kill, and says nothing
                found["runs"] += 1
                found["same"] += same(run.final, whole / "final")
            elif (missed := missed + 1) == 50:
                raise RuntimeError("50 runs were through before a kill: runs are too short, or no write was seen")
        again = Run(task, whole)
        again.final = whole / "again"
        again.through()
        rows = [_row("runs killed while training", found["same"], found["runs"], **found, seconds=seconds)]
        rows.append(_row("started again after the end", int(same(again.final, whole / "final")), 1))
        return [*rows, _row("altered files", refused(whole / "final", flips, rng), flips)]


def _row(what: str, right: int, of: int, **more: Any) -> measured.Row:
    return {"what": what, "right": right, "of": of, "met": right == of, **more}


def same(one: Path, other: Path) -> bool:
    """Return whether two saved agents are the same to the last bit, apart from the times in their learning curves."""
    (here, said), (there, told) = read(one), read(other)
    equal = here.keys() == there.keys() and all(
        part.dtype == there[name].dtype and part.numpy().tobytes() == there[name].numpy().tobytes()
        for name, part in here.items()
    )
    return equal and _timeless(said) == _timeless(told)


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in record["history"]]
    return {**record, "history": history, "seconds": None}


def refused(path: Path, times: int, rng: np.random.Generator) -> int:
    """Count the alterations of a file, in turn a bit flipped and the end cut off, that `load` refuses.

    Args:
        path: the file.
        times: number of alterations.
        rng: source of random numbers.
    """
    content, count = path.read_bytes(), 0
    altered = path.with_name("altered")
    for k in range(times):
        place = int(rng.integers(len(content)))
        flipped = content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]
        altered.write_bytes(flipped if k % 2 == 0 else content[:place])
        try:
            Agent.load(altered)
        except CheckpointError:
            count += 1
        except Exception as error:  # any other error is one that says nothing to the user
            print(f"byte {place}: {error!r}", file=sys.stderr)
    return count


def main(
    kills: int = 30,
    flips: int = 1000,
    agent: str = "npi",
    env: str = "Merton-v0",
    seed: int = 0,
    budget: int | None = None,
    json: Path | None = None,
) -> int:
    """Kill training, and alter its file.

    Args:
        kills: number of kills to deliver.
        flips: number of alterations of the file.
        agent: name of the agent.
        env: id of the environment that it learns on.
        seed: seed of learning, and of the moments of the kills.
        budget: state-action points of a run; None for the agent's own default.
        json: a file to write the figures to.
    """
    given = {"env": env, "agent": agent, "seed": seed, "budget": budget, "hyperparameters": SETTINGS.get(agent, {})}
    rows = measure(given, kills, flips)
    columns = {"": "{what}", "as it must be": "{right} of {of}"}
    first = rows[0]
    note = (
        f"{agent} on {env}: {first['kills']} kills, {first['during a write']} of them during the write of a checkpoint;"
        f" an uninterrupted run learns for {first['seconds']:.1f} s. Figures must be all of all."
    )
    return measured.report("measure.kills", rows, columns, {**given, "kills": kills, "flips": flips}, json, note)


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main))
    except HacontrolError as error:
        sys.exit(f"measure.kills: {error}")
