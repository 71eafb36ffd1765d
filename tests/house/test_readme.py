"""Pages are true: their Python blocks run as they stand, and say what they claim; what they name exists."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
GENERATED = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "hacontrol_envs" / "pages").glob("*.md"))
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "hacontrol_envs/README.md",
        "agents/README.md",
        "benchmarks/README.md",
        "tests/README.md",
        "CONTRIBUTING.md",
        *GENERATED,
    )
}


def block(page: str, section: str) -> str:
    """The one Python block of a section of a page."""
    (text,) = (part for part in re.split(r"(?m)^## ", PAGES[page]) if part.startswith(f"{section}\n"))
    (found,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return str(found)


def run(page: str, section: str, folder: Path) -> str:
    script = folder / "block.py"
    script.write_text(block(page, section), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", text)]


@pytest.mark.slow
def test_the_tour_finds_the_optimum(tmp_path: Path) -> None:
    *policies, loss = numbers(run("README.md", "Example", tmp_path))
    learned, analytic = policies[:4], policies[4:]
    assert learned == pytest.approx(analytic, rel=1e-4)
    assert 0 <= loss < 1e-6


@pytest.mark.slow
def test_an_industry_is_learnt(tmp_path: Path) -> None:
    price, output, capital, *_, gap = numbers(run("hacontrol_envs/README.md", "An industry in equilibrium", tmp_path))
    assert (price, output, capital) == pytest.approx((0.7183080, 1.392161, 2.41922), rel=1e-5)
    assert abs(gap) < 1e-3
    assert (tmp_path / "impulse.png").stat().st_size > 10_000
    assert (tmp_path / "equilibrium.png").stat().st_size > 10_000


@pytest.mark.slow
def test_households_are_learnt(tmp_path: Path) -> None:
    """Capital on so coarse a grid is .3 % above that on a fine one; three iterations come near the reference."""
    steady, reference, path_error = filter(
        None, run("hacontrol_envs/README.md", "Households and aggregate risk", tmp_path).splitlines()
    )
    assert numbers(steady)[0] == pytest.approx(33.13, rel=5e-3)
    assert numbers(reference)[0] == pytest.approx(33.144, rel=5e-3)
    assert 0 < float(path_error) < 0.2


@pytest.mark.slow
def test_an_industry_is_calibrated(tmp_path: Path) -> None:
    first, *table, last = run("hacontrol_envs/README.md", "Moments, tables and calibration", tmp_path).splitlines()
    (deviation, gini), (discount, capital) = numbers(first), numbers(last)
    assert table[0] == r"\begin{tabular}{lr}"
    assert (deviation, gini) == pytest.approx((0.0165229, 0.0299732), rel=1e-4)
    assert 0.97 < discount < 0.985
    assert capital == pytest.approx(30.0, rel=1e-5)


@pytest.mark.slow
def test_a_policy_and_its_rate_are_learnt_from_steps(tmp_path: Path) -> None:
    """1000 units of time tell those of LQR to several per cent, 25 000 a portfolio's risky fraction to 10 or 20."""
    learned, best, rate, true, *portfolios = numbers(run("agents/README.md", "Learning from steps alone", tmp_path))
    assert learned == pytest.approx(best, rel=0.1)
    assert rate == pytest.approx(true, rel=0.1)
    risky, consumed, best_risky, best_consumed = portfolios
    assert risky == pytest.approx(best_risky, rel=0.25)
    assert consumed == pytest.approx(best_consumed, rel=0.15)


@pytest.mark.slow
def test_the_problem_of_a_newcomer_is_solved(tmp_path: Path) -> None:
    """0.1 P = 1 - P^2 has the root 0.95125."""
    assert numbers(run("hacontrol_envs/README.md", "Add a problem", tmp_path)) == [pytest.approx(-0.9512492, rel=1e-4)]


@pytest.mark.slow
def test_a_household_of_one_s_own_is_learnt(tmp_path: Path) -> None:
    """At the limit exactly; elsewhere as by endogenous grids, where income is as likely to be low as high."""
    assets, incomes = 30 * np.linspace(0, 1, 2000) ** 2, np.array([[0.8], [1.2]])
    c = most = 1.02 * assets + incomes
    for _ in range(500):
        wanted = (0.95 * 1.02 * np.mean(c**-2, axis=0)) ** -0.5
        own = (wanted + assets - incomes) / 1.02
        c = np.where(assets < own[:, :1], most, [np.interp(assets, row, wanted) for row in own])
    at_limit, inside = numbers(run("agents/README.md", "Euler equations", tmp_path))
    assert at_limit == 0.8
    assert inside == pytest.approx(np.interp(2.0, assets, c[1]), rel=1e-3)


@pytest.mark.slow
def test_the_agent_of_a_newcomer_plays(tmp_path: Path) -> None:
    assert run("agents/README.md", "Add an agent", tmp_path).startswith("(array([0.]")


@pytest.mark.slow
@pytest.mark.parametrize("page", GENERATED)
def test_the_plots_of_environments_and_economies_are_drawn(page: str, tmp_path: Path) -> None:
    run(page, "Plot", tmp_path)
    if "frame =" not in block(page, "Plot"):
        (picture,) = tmp_path.glob("*.png")
        assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("page", PAGES)
def test_every_command_named_exists(page: str) -> None:
    named = set(re.findall(r"(?:`|^    )hacontrol ([\w-]+)", PAGES[page], flags=re.MULTILINE))
    assert named <= {"list", "run", "report", "compare", "time-step", "readme"}
    for module in re.findall(r"python -m ([\w.]+)", PAGES[page]):
        assert importlib.util.find_spec(module), f"{page} names {module}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", PAGES[page]):
        assert not link[0] or (ROOT / page).parent.joinpath(link[0]).exists(), f"{page} links to {link[0]}"


@pytest.mark.parametrize("page", PAGES)
def test_every_section_that_is_linked_to_is_there(page: str) -> None:
    for link, section in re.findall(r"\]\(([^)#]*)#([^)]*)\)", PAGES[page]):
        target = (ROOT / page).parent.joinpath(link).resolve() if link else ROOT / page
        titles = re.findall(r"(?m)^## (.*)$", target.read_text(encoding="utf-8"))
        assert section in [title.lower().replace(" ", "-") for title in titles], f"{page} links to {link}#{section}"


def test_the_first_page_is_short() -> None:
    assert len(PAGES["README.md"].encode()) <= 7 * 1024
