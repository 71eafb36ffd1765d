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
CONTEXT.set_forkserver_preload(["hacontrol_agents.core.agent", __name__])  # torch is imported once, not by every child
LIMIT = 300.0
"""Seconds after which a child is taken to hang."""


def train(task: dict[str, Any], checkpoint: Path, final: Path, learning: Connection | None = None) -> None:
    """What a child does: learn from the checkpoint on, and save the agent at the end.

    Args:
        task: env, agent, seed, hyperparameters and budget (see `measure.kills`).
        learning: told when learning starts.
    """
    agent = make_agent(task["agent"], env=gym.make(task["env"]), seed=task["seed"], **task["hyperparameters"])
    if learning is not None:
        learning.send(True)
    agent.learn(task["budget"], checkpoint=checkpoint)
    agent.save(final)


@final
class Run:
    """One training run in a folder that exists and is its own, by as many processes as it takes."""

    def __init__(self, task: dict[str, Any], folder: Path) -> None:
        self.task, self.folder, self.final = task, folder, folder / "final"

    def through(self) -> float:
        """Train to the end; seconds from the start of learning."""
        child = self._start()
        began = time.perf_counter()
        child.join(LIMIT)
        seconds = time.perf_counter() - began
        if self._ended(child) != 0:
            raise RuntimeError("training was killed, and not by us")
        return seconds

    def killed(self, rng: np.random.Generator, seconds: float, most: int, before: int) -> Iterator[bool]:
        """Train to the end, killed up to `most` times; for each kill, whether a checkpoint was being written."""
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
        """A child that has begun to learn, or has failed."""
        here, there = CONTEXT.Pipe(duplex=False)
        child = CONTEXT.Process(target=train, args=(self.task, self.folder / "checkpoint", self.final, there))
        child.start()
        there.close()
        with here, contextlib.suppress(EOFError):
            here.recv()
        return child

    def _ended(self, child: ForkServerProcess) -> int:
        """0 if the child ended by itself, a negative number if it was killed."""
        child.join(LIMIT)
        code = child.exitcode
        if code is None:
            child.kill()
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"training failed (exit code {code})")
        child.close()
        return code

    def _being_written(self) -> list[Path]:
        """Temporary files, which a kill leaves behind."""
        return list(self.folder.glob(".*"))
