"""README is true: its Python blocks run as they stand, and say what they claim."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(block: str, folder: Path) -> str:
    script = folder / "block.py"
    script.write_text(block, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", text)]


def test_the_tour_finds_the_optimum(tmp_path: Path) -> None:
    *policies, loss, optimal_loss = numbers(run(BLOCKS[0], tmp_path))
    learned, analytic = policies[:4], policies[4:]
    assert learned == pytest.approx(analytic, rel=1e-4)
    assert optimal_loss == 0.0
    assert 0 <= loss < 1e-6


def test_an_industry_is_learnt(tmp_path: Path) -> None:
    price, output, capital, *_, gap = numbers(run(BLOCKS[1], tmp_path))
    assert (price, output, capital) == pytest.approx((0.7183080, 1.392161, 2.41922), rel=1e-5)
    assert abs(gap) < 1e-3
    assert (tmp_path / "impulse.png").stat().st_size > 10_000
    assert (tmp_path / "equilibrium.png").stat().st_size > 10_000


def test_households_are_learnt(tmp_path: Path) -> None:
    """Capital on so coarse a grid is .3 % above that on a fine one; three iterations come near the reference."""
    steady, reference, path_error = filter(None, run(BLOCKS[2], tmp_path).splitlines())
    assert numbers(steady)[0] == pytest.approx(33.13, rel=5e-3)
    assert numbers(reference)[0] == pytest.approx(33.144, rel=5e-3)
    assert 0 < float(path_error) < 0.2


def test_a_policy_and_its_rate_are_learnt_from_steps(tmp_path: Path) -> None:
    """1000 units of time tell those of LQR to several per cent, 25 000 a portfolio's risky fraction to 10 or 20."""
    learned, best, rate, true, *portfolios = numbers(run(BLOCKS[3], tmp_path))
    assert learned == pytest.approx(best, rel=0.1)
    assert rate == pytest.approx(true, rel=0.1)
    risky, consumed, best_risky, best_consumed = portfolios
    assert risky == pytest.approx(best_risky, rel=0.25)
    assert consumed == pytest.approx(best_consumed, rel=0.15)


def test_the_problem_of_a_newcomer_is_solved(tmp_path: Path) -> None:
    """0.1 P = 1 - P^2 has the root 0.95125."""
    assert numbers(run(BLOCKS[4], tmp_path)) == [pytest.approx(-0.9512492, rel=1e-4)]


def test_the_agent_of_a_newcomer_plays(tmp_path: Path) -> None:
    assert run(BLOCKS[5], tmp_path).startswith("(array([0.]")


def test_every_command_named_exists() -> None:
    from hacontrol_benchmarks import cli

    named = set(re.findall(r"`hacontrol ([\w-]+)", README))
    assert named <= {"list", "run", "report", "compare", "time-step"}
    assert named
    assert callable(cli.main)
