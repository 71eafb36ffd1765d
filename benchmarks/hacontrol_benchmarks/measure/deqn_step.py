"""Time a training step of DEQN beside one of the published port, on the same economies and as many samples.

A step: every economy (256 of "ssj", 100 nodes up to 50, 3 income states) chooses on its whole grid and is
moved a period; the loss at 64 cells of each, exact over the 15 pairs (Z', e'); its gradient; the update. Contenders:

- the published port in plain torch: torch's own Mish, the sum over (Z', e') in as many passes as there are pairs, and
  the law moved by a loop over (e, e') with two scatter-adds each;
- the same method as `PublishedDEQN` has it: an activation and a transport that are faster, and gradients in parts that
  stay in a core's cache;
- `DEQN` with its own network and residual: an iteration of one step of least squares, and a step of Adam (an iteration
  of ten, in which the economies move ten times, divided by ten).

Figures are medians over repeats of (time of the port)/(time of this one), one step of each after the other on one
thread, by the process's own time, which other processes lengthen least.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from torch import Tensor, nn

from hacontrol_agents import DEQN, PublishedDEQN
from hacontrol_agents.euler.deqn import ADAM_STEPS, Optimizer
from hacontrol_agents.euler.published_deqn import Sample, euler_residual, inputs
from hacontrol_agents.learning.mish import Mish
from hacontrol_benchmarks.measure import measured
from hacontrol_benchmarks.measure.transport import loop

ECONOMIES, CELLS, NODES, TOP = 256, 64, 100, 50.0
TARGET = 4.0
"""Least ratio of the time of a step of the port to that of a step of DEQN by Adam, both of which follow a gradient."""

PORT, PUBLISHED, OURS, ADAM = "published port, plain torch", "PublishedDEQN", "DEQN, least squares", "DEQN, Adam"
STEPS = {PORT: 1, PUBLISHED: 1, OURS: 1, ADAM: ADAM_STEPS}
"""Steps of the optimizer in a call, by contender."""
EVER = 1e9
"""Residual below which DEQN's economies move; so large that they move from the first iteration on."""

Step = Callable[[], Any]


def measure(repeats: int = 7) -> list[measured.Row]:
    """Return a row for each contender: milliseconds a step, and how many times as long the port takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = _contenders()
        times = [{name: _seconds(step) / STEPS[name] for name, step in steps.items()} for _ in range(repeats + 1)][1:]
    finally:
        torch.set_num_threads(threads)
    return [_row(name, times) for name in steps]


def _row(name: str, times: list[dict[str, float]]) -> measured.Row:
    row: measured.Row = {"what": name, "ms": 1e3 * statistics.median(t[name] for t in times), "target": ""}
    row["ratio"] = statistics.median(t[PORT] / t[name] for t in times)
    return row if name != ADAM else row | {"target": f">= {TARGET:g}", "met": row["ratio"] >= TARGET}


def _contenders() -> dict[str, Step]:
    env = gym.make("KrusellSmith-v0", calibration="ssj", others="steady state", asset_nodes=NODES, asset_max=TOP)
    published = PublishedDEQN(env=env, seed=0, economies=ECONOMIES, cells=CELLS)
    ours = {OURS: deqn(env, "levenberg-marquardt"), ADAM: deqn(env, "adam")}
    return {PORT: Port(published).step, PUBLISHED: published.step, **ours}


def deqn(env: Any, optimizer: Optimizer) -> Step:
    """Return an iteration of DEQN at as many points of as many economies, which move once a step of the optimizer."""
    steps = STEPS[OURS if optimizer == "levenberg-marquardt" else ADAM]
    settings: dict[str, Any] = {"steps": 1, "moves": steps, "settled": EVER, "optimizer": optimizer}
    agent = DEQN(env=env, seed=0, economies=ECONOMIES, points=ECONOMIES * CELLS, **settings)
    return lambda: agent.learn(1, callback=lambda agent: False)  # and do not look where the economies lead


class Port:
    """The published method step by step, as one would write it in torch, with network and economies of `published`."""

    def __init__(self, published: PublishedDEQN) -> None:
        economy = self.economy = published.economy
        self.network = nn.Sequential(*(nn.Mish() if isinstance(part, Mish) else part for part in published.network))
        self.adam = torch.optim.Adam(self.network.parameters(), lr=published.learning_rate)
        self.z, self.law = (torch.from_numpy(part.copy()) for part in published.training_economies)
        tables = economy.assets, economy.aggregate_chain, economy.income_chain[0, 0]
        self.assets, self.chain, self.shock = (torch.as_tensor(table, dtype=torch.float32) for table in tables)

    def step(self) -> None:
        """Train for one epoch."""
        economy, (n_e, n_a) = self.economy, self.law.shape[1:]
        moved = loop(self.law, self._choice(), self.assets, self.shock)
        nodes = torch.randint(n_e * n_a, (len(self.z), CELLS))
        capital = economy.capital_of(self.law), economy.capital_of(moved)
        sample = Sample(self.assets[nodes % n_a], nodes // n_a, self.z, *capital)
        self.adam.zero_grad()
        loss = euler_residual(economy, self._in_passes, sample).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.z, self.law = torch.multinomial(self.chain[self.z], 1)[:, 0], moved

    @torch.no_grad()
    def _choice(self) -> Tensor:
        """a' on the grid, (S, n_e, n_a)."""
        economy, e = self.economy, torch.arange(self.law.shape[1])[:, None]
        z, capital = self.z[:, None, None], economy.capital_of(self.law)[:, None, None]
        share = torch.sigmoid(self.network(inputs(economy, self.assets, e, z, capital)))[..., 0]
        above = economy.cash(self.assets, e, z, capital) - economy.borrowing_limit
        choice: Tensor = economy.borrowing_limit + share * above
        return choice.clamp(max=float(self.assets[-1]))

    def _in_passes(self, x: Tensor) -> Tensor:
        """The network at x (..., 4), at as many rows at a time as there are samples."""
        parts = [self.network(part) for part in torch.split(x.reshape(-1, 4), ECONOMIES * CELLS)]
        return torch.cat(parts).reshape(*x.shape[:-1], 1)


def _seconds(step: Step) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


COLUMNS = {"": "{what}", "ms a step": "{ms:.0f}", "port over this": "{ratio:.2f}", "target": "{target}"}
NOTE = f"{ECONOMIES} economies of 3 x {NODES} cells, {CELLS} samples in each, 15 successors of each sample; one thread."


def main(repeats: int = 7, json: Path | None = None) -> int:
    """Measure how long a training step takes, beside the published port's.

    Args:
        repeats: number of timed steps of each contender, after one that is not timed.
        json: a file to write the figures to.
    """
    settings = {"repeats": repeats, "economies": ECONOMIES, "cells": CELLS, "nodes": NODES, "seed": 0}
    return measured.report("measure.deqn_step", measure(repeats), COLUMNS, settings, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
