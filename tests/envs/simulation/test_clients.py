"""Other people's clients: those that are installed on a few environments, and the committed table of all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from common import clients
from common.clients import ABSENT, CASES, CLIENTS, PASSED, Client, judge

TABLE = Path(__file__).parents[3] / "benchmarks" / "results" / "clients.md"
TRIED = ["LQR-v0", "Merton-v0, horizon=2", "KrusellSmithCloud-v0"]
"""A truncated, a terminated, and a discrete environment with a long state."""


@pytest.mark.slow
@pytest.mark.parametrize("case", TRIED)
@pytest.mark.parametrize("name", CLIENTS)
def test_an_installed_client_gets_along(name: str, case: str) -> None:
    if (verdict := judge(CLIENTS[name], *CASES[case])) == ABSENT:
        pytest.skip(f"{CLIENTS[name].distribution} is not installed")
    assert verdict == PASSED


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def test_the_committed_table_is_of_every_client_and_case_and_none_failed() -> None:
    head, _, *rows = [cells(line) for line in TABLE.read_text().splitlines() if line.startswith("|")]
    assert head == ["client", "version", *CASES]
    assert [row[0] for row in rows] == list(CLIENTS)
    for name, ran, *verdicts in rows:
        assert verdicts == [PASSED] * len(CASES), f"{name}: {verdicts}"
        assert ran.split()[0] == CLIENTS[name].distribution


class Faulty(gym.Env[Any, Any]):
    """A walk of 16 steps with one fault: unseeded noise, a state that no copy keeps, a reward of NaN; or "none"."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  (Gymnasium's own attribute)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault: str, render_mode: str | None = None) -> None:
        self.fault, self.render_mode, self.x = fault, render_mode, np.zeros(1, np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"x": np.zeros(1, np.float32)} if self.fault == "forgets" else {})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = np.zeros(1, np.float32)
        return self.x, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        noise = np.random.default_rng().normal() if self.fault == "unseeded" else 0.0
        self.x = (self.x + action + noise).astype(np.float32)
        return self.x, float("nan") if self.fault == "nan" else 1.0, False, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def faulty() -> Iterator[str]:
    gym.register("Faulty-v0", Faulty, max_episode_steps=16)
    yield "Faulty-v0"
    gym.registry.pop("Faulty-v0")


FAULTS = {
    "Gymnasium, one seed twice": ("unseeded", "Arrays are not equal"),
    "Gymnasium, sync = async = make_vec": ("unseeded", "Arrays are not equal"),
    "Gymnasium, pickle in mid-episode": ("forgets", "Arrays are not equal"),
    "Gymnasium check_env": ("nan", "NaN"),
    "SB3 PPO": ("nan", "nan"),
    "CleanRL's PPO loop": ("nan", "non-finite"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_does_not_pass(faulty: str, name: str) -> None:
    """And it is for its fault: the same environment without it passes."""
    fault, why = FAULTS[name]
    assert judge(CLIENTS[name], faulty, {"fault": "none"}) == PASSED
    assert why in judge(CLIENTS[name], faulty, {"fault": fault})


def test_a_failure_is_one_cell_and_the_exit_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(id: str, parameters: dict[str, Any]) -> None:
        raise ValueError("\n no | thanks\nand more")

    made = {"refuses": Client(refuse, "numpy", "numpy"), "absent": Client(refuse, "no_such_module", "no-such")}
    monkeypatch.setattr(clients, "CLIENTS", made)
    monkeypatch.setattr(clients, "CASES", {"LQR-v0": ("LQR-v0", {})})
    monkeypatch.setattr(sys, "argv", ["clients.py", "--out", str(tmp_path / "table.md")])
    assert clients.main() == 1
    *_, refuses, absent = (tmp_path / "table.md").read_text().splitlines()
    assert cells(refuses)[2:] == ["ValueError: no \\| thanks"]
    assert cells(absent) == ["absent", ABSENT, ABSENT]
    del made["refuses"]
    assert clients.main() == 0
