"""A training run in a process that is killed, and started again, until it ends by itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, final

import gymnasium as gym
import numpy as np

from hacontrol_agents import make_agent

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "hacontrol_agents.core.agent", __name__])  # once, not by every child
LIMIT = 300.0
"""Seconds after which a child is taken to hang."""


def train(task: dict[str, Any], checkpoint: Path, final: Path, learning: Connection | None = None) -> None:
    """Learn from the checkpoint on, and save the agent at the end, in a child process.

    Args:
        task: env, agent, seed, hyperparameters and budget (see `measure.kills`).
        checkpoint: file of the checkpoint.
        final: file of the trained agent.
        learning: connection that is told when learning starts; None tells nobody.
    """
    agent = make_agent(task["agent"], env=gym.make(task["env"]), seed=task["seed"], **task["hyperparameters"])
    if learning is not None:
        learning.send(True)
    agent.learn(task["budget"], checkpoint=checkpoint)
    agent.save(final)


@final
class Run:
    """One training run in a folder of its own, which exists, by as many processes as it takes."""

    def __init__(self, task: dict[str, Any], folder: Path) -> None:
        self.task, self.folder, self.final = task, folder, folder / "final"

    def through(self) -> float:
        """Train to the end; return the seconds from the start of learning."""
        child = self._start()
        began = time.perf_counter()
        child.join(LIMIT)
        seconds = time.perf_counter() - began
        if self._ended(child) != 0:
            raise RuntimeError("training was killed, and not by us")
        return seconds

    def killed(self, rng: np.random.Generator, seconds: float, most: int, before: int) -> Iterator[bool]:
        """Train to the end, killed up to `most` times; yield for each kill whether a checkpoint was being written.

        Args:
            rng: source of random moments.
            seconds: largest time of a kill after the start of learning.
            most: largest number of kills.
            before: number of kills of earlier runs: every third kill waits for a checkpoint to be written.
        """
        for kill in range(most):
            child = self._start()
            time.sleep(rng.uniform(0, seconds))
            left = len(self._being_written())
            aimed = (before + kill) % 3 == 2
            while aimed and child.is_alive() and len(self._being_written()) == left:
                pass
            child.kill()
            if self._ended(child) == 0:
                return
            yield len(self._being_written()) > left
        self.through()

    def _start(self) -> ForkServerProcess:
        """Start a child, and return it when it has begun to learn, or has failed."""
        here, there = CONTEXT.Pipe(duplex=False)
        child = CONTEXT.Process(target=train, args=(self.task, self.folder / "checkpoint", self.final, there))
        child.start()
        there.close()
        with here, contextlib.suppress(EOFError):
            here.recv()
        return child

    def _ended(self, child: ForkServerProcess) -> int:
        """Return 0 if the child ended by itself, a negative number if it was killed."""
        child.join(LIMIT)
        code = child.exitcode
        if code is None:
            child.kill()
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"training failed (exit code {code})")
        child.close()
        return code

    def _being_written(self) -> list[Path]:
        """Return temporary files, which a kill leaves behind."""
        return list(self.folder.glob(".*"))
