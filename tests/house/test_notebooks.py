"""Notebooks run as they stand, and find what they say; their kept outputs are small and of the same cells."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from common import notebooks

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")

LARGEST = 150_000
"""Bytes of a notebook."""


def judged(names: dict[str, Any]) -> None:
    """After so few steps PPO is worse than a rule of thumb; the best investor is Merton's, and no other is as good."""
    assert 0 < names["lqr"]["push back"]["value_loss"] < min(1.0, names["lqr"]["ppo"]["value_loss"])
    assert names["best"][0] == pytest.approx(0.05 / (2 * 0.2**2), rel=1e-12)
    assert 0 < names["merton"]["60 : 40"]["value_loss"] < names["merton"]["cautious"]["value_loss"] < 1


def economies(names: dict[str, Any]) -> None:
    """The price is README's; demand clears the market; saving as a precaution lowers the rate; capital peaks late."""
    assert names["truth"].price == pytest.approx(0.7183080, rel=1e-4)
    for elasticity, found in zip(names["elasticities"], names["statics"], strict=True):
        assert found.price * found.output**elasticity == pytest.approx(1.0, rel=1e-6)
    assert names["rest"].interest_rate < 1 / names["economy"].discount_factor - 1
    assert 4 < names["peak"] < 60
    assert names["response"].capital[-1] < names["response"].capital[names["peak"]] / 2


def portfolios(names: dict[str, Any]) -> None:
    """The learned policy is the closed form; losses are quadratic in an error of the policy and in the time step."""
    agent, optimum, wealth = names["agent"], names["optimum"], names["wealth"]
    assert optimum.policy(0.0, wealth)[:, 0] == pytest.approx(0.05 / (3 * 0.2**2), rel=1e-12)
    assert agent.policy(0.0, wealth) == pytest.approx(optimum.policy(0.0, wealth), rel=1e-2)
    assert names["losses"][1] / names["losses"][0] == pytest.approx(100, rel=0.02)
    assert names["slope"] == pytest.approx(2.0, abs=0.2)


CLAIMS: dict[str, Callable[[dict[str, Any]], None]] = {
    "judge_your_agent": judged,
    "economies": economies,
    "portfolios": portfolios,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_a_notebook_finds_what_it_says(name: str) -> None:
    path = notebooks.FOLDER / f"{name}.ipynb"
    kept, (again, names) = json.loads(path.read_text(encoding="utf-8")), notebooks.run(path)
    CLAIMS[name](names)
    for before, after in zip(kept["cells"], again["cells"], strict=True):
        assert kinds(before) == kinds(after), "run `python tests/common/notebooks.py`"


def kinds(cell: dict[str, Any]) -> list[list[str]]:
    """Media types of a cell's outputs, or that it printed."""
    return [sorted(output.get("data", ["stdout"])) for output in cell.get("outputs", [])]


def test_every_notebook_has_its_claims_and_is_small() -> None:
    found = {path.stem: path for path in notebooks.FOLDER.glob("*.ipynb")}
    assert found.keys() == CLAIMS.keys()
    assert all(path.stat().st_size < LARGEST for path in found.values())
    assert all('"image/png"' in path.read_text(encoding="utf-8") for path in found.values())


def test_the_runner_shows_what_jupyter_would() -> None:
    names: dict[str, Any] = {}
    (printed, result) = notebooks.executed("%matplotlib inline\nx = 2\nprint('two')\nx + 1", names, 1)
    assert (printed["text"], result["data"]["text/plain"], names["x"]) == (["two\n"], "3", 2)
    assert notebooks.executed("x = 3\nx;\nNone", names, 2) == []
    figure = notebooks.shown(Figure(figsize=(1, 1)))["image/png"]
    assert base64.b64decode(figure)[1:4] == b"PNG"
