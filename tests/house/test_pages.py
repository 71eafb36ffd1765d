"""Pages of environments, economies and agents: true of the objects they describe, complete, and as committed."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import hacontrol_envs
from hacontrol_agents import agents
from hacontrol_agents.core.registry import BUILT_IN
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.reporting.entry import committed_pages, entry
from hacontrol_benchmarks.reporting.readme import pages, tables, with_tables, write_pages
from hacontrol_envs import LQR, FirmIndustry, FirmInvestment, KrusellSmith, KrusellSmithHousehold, Merton, SDEEnv
from hacontrol_envs.core.meanings import meanings
from hacontrol_envs.core.page import environment_page, page
from hacontrol_envs.economies.krusell_smith.calibrations import CALIBRATIONS
from hacontrol_envs.errors import UnknownNameError

ROOT = Path(__file__).parents[2]
QUICK = ["BrockMirman-v0", "FirmInvestment-v0", "LQR-v0", "Merton-v0"]
DESCRIBED = [
    *(
        hacontrol_envs.BrockMirman,
        FirmInvestment,
        LQR,
        Merton,
        KrusellSmithHousehold,
        hacontrol_envs.KrusellSmithPlanner,
    ),
    *(KrusellSmith, FirmIndustry),
]


def rows(text: str, section: str) -> list[list[str]]:
    """Cells of the table of a section."""
    (part,) = (part for part in text.split("\n## ") if part.startswith(f"{section}\n"))
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.slow
def test_committed_pages_are_what_the_command_writes():
    for path, text in pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not up to date: run hacontrol readme"
    assert {path.stem for path in (ROOT / "hacontrol_envs" / "pages").iterdir()} == set(committed_pages())
    assert {"Merton-v0", "KrusellSmith", "FirmIndustry"} <= set(committed_pages())


def test_the_command_writes_only_what_differs(tmp_path, monkeypatch):
    monkeypatch.setattr("hacontrol_benchmarks.reporting.readme.committed_pages", lambda: {"A-v0": lambda: "a page\n"})
    monkeypatch.setattr("hacontrol_benchmarks.reporting.readme.tables", lambda folder: {"one": lambda: "| new |"})
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "hacontrol_envs").mkdir()
    (tmp_path / "README.md").write_text("x\n<!-- table: one -->\n| old |\n<!-- end -->\ny\n")
    (tmp_path / "benchmarks" / "README.md").write_text("by hand | old |\n")
    page, readme = tmp_path / "hacontrol_envs" / "pages" / "A-v0.md", tmp_path / "README.md"
    assert write_pages(tmp_path) == [page, readme]
    assert (page.read_text(), readme.read_text()) == (
        "a page\n",
        "x\n<!-- table: one -->\n| new |\n<!-- end -->\ny\n",
    )
    assert write_pages(tmp_path) == []


def test_a_number_altered_by_hand_is_put_right():
    made = {name: make for name, make in tables(ROOT / "benchmarks" / "results").items() if name == "equilibrium"}
    section = f"before\n<!-- table: equilibrium -->\n{made['equilibrium']()}\n<!-- end -->\nafter\n"
    assert "3.9e-8 [4.4e-10, 4.5e-7]" in section
    assert with_tables(section.replace("3.9e-8", "1.0e-9"), made) == section


def test_a_table_that_nobody_makes_is_refused():
    with pytest.raises(UnknownNameError, match="no table is called 'papr'; did you mean 'paper'"):
        with_tables("<!-- table: papr -->\n<!-- end -->", {"paper": lambda: ""})


@pytest.mark.parametrize("id", QUICK)
def test_a_page_is_true_of_its_environment(id):
    env = gym.make(id).unwrapped
    text, problem, signature = page(id), env.problem, inspect.signature(type(env.problem))
    for section, box, space in (
        ("Observation", problem.observation, env.observation_space),
        ("Action", problem.action, env.action_space),
    ):
        found = rows(text, section)
        assert len(found) == space.shape[0]
        assert [row[1] for row in found] == list(box.names)
        for place, physical in (
            (3, box.from_unit(-np.ones(box.dimension))),
            (4, box.from_unit(np.ones(box.dimension))),
        ):
            assert [float(row[place]) for row in found] == pytest.approx(physical, rel=5e-4)
    facts = dict(rows(text, "In short"))
    rate, gamma = (float(found) for found in re.findall(r"[\d.]+", facts["discount"]))
    assert (rate, gamma) == pytest.approx((problem.discount, math.exp(-problem.discount * env.dt)), rel=5e-4)
    assert f"`dt={env.dt!r}`" in facts["time step"]
    assert f"truncated after {env.episode_steps} steps" in facts["end"]
    assert {row[0]: row[1] for row in rows(text, "Parameters")} == {
        f"`{one.name}`": f"`{one.default!r}`" for one in signature.parameters.values()
    }


@pytest.mark.parametrize("kind", DESCRIBED)
def test_every_parameter_has_a_meaning(kind):
    said = meanings(kind)
    for name in inspect.signature(kind).parameters:
        assert len(said.get(name, "")) > 3, f"{kind.__name__} does not say what {name} is"
        assert said[name].endswith(".")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_hyperparameter_has_a_meaning(name):
    kind = agents()[name]
    said = meanings(kind)
    assert all(len(said.get(field.name, "")) > 3 for field in dataclasses.fields(kind) if field.init)


def test_rates_have_units():
    units = {row[0]: row[3] for row in rows(page("Merton-v0"), "Parameters")}
    assert [units[f"`{name}`"] for name in ("risk_free_rate", "volatility", "horizon", "risk_aversion")] == [
        *("1/year", "1/year^(1/2)", "years", ""),
    ]
    assert all("[" not in row[2] or "]" not in row[2][-3:] for row in rows(page("FirmInvestment-v0"), "Parameters"))


def test_defaults_of_both_calibrations_are_shown():
    found = {row[0].strip("`"): row[1] for row in rows(entry("KrusellSmith"), "Parameters")}
    for name, default in CALIBRATIONS["jedc"].items():
        assert f"`{default!r}`" in found[name]
    for name, default in CALIBRATIONS["ssj"].items():
        assert found[name].startswith(f"`{default!r}`")
    assert found["hours"].endswith("only `'jedc'`")


@pytest.mark.parametrize("id", QUICK)
def test_an_environment_has_its_page_as_docstring(id):
    assert gym.make(id).unwrapped.__doc__ == page(id) == gym.make(f"hacontrol/{id}").unwrapped.__doc__


def test_the_docstring_is_that_of_the_parameters_given():
    text = gym.make("Merton-v0", horizon=2.0, dt=0.5).unwrapped.__doc__
    facts = dict(rows(text, "In short"))
    assert facts["end"] == "terminated at T = 2"
    assert facts["terminal reward"] == inspect.getdoc(Merton.terminal_reward)
    assert rows(text, "Observation")[-1][1].startswith("time to go")
    assert "Plot" not in SDEEnv(Merton(), dt=0.5).__doc__


def test_a_page_costs_nothing_until_it_is_read(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a page was made")

    monkeypatch.setattr("hacontrol_envs.simulation.env.environment_page", refuse)
    env = gym.make("Merton-v0").unwrapped
    assert SDEEnv.__doc__.startswith("A sampled problem")
    with pytest.raises(AssertionError, match="a page was made"):
        _ = env.__doc__


def test_many_components_share_a_row():
    text = environment_page(None, LQR(dimension=40), 0.02, "euler", 10)
    assert [row[:2] for row in rows(text, "Observation")] == [["0 to 39", "x1 to x40"]]
    assert len(rows(page("Merton-v0"), "Action")) == 2


class Unfinished(hacontrol_envs.ControlProblem):
    """A problem of somebody else."""

    state, action = hacontrol_envs.Domain(["x"], [-1.0], [1.0]), hacontrol_envs.Domain(["a"], [-1.0], [1.0])
    noise_dim, discount, horizon = 1, 0.1, None

    def drift(self, t, x, a):
        return a

    def diffusion(self, t, x, a):
        return np.ones_like(x[..., None])

    def reward(self, t, x, a):
        """-x^2."""
        return -(x[..., 0] ** 2)

    def initial_state(self, rng, size):
        """Zero."""
        return np.zeros((size, 1))


def test_the_page_of_a_problem_without_solution_says_so():
    text = environment_page("Unfinished-v0", Unfinished(), 0.1, "euler", None)
    facts = dict(rows(text, "In short"))
    assert (facts["start"], facts["end"]) == ("Zero.", "never")
    assert facts["how the truth is known"] == "It is not: policies are certified."
    assert "    hacontrol compare Unfinished-v0\n" in text
    assert "solution()" not in text
    assert facts["reward"] == "-x^2. A step pays r at its start times the discounted length of the step."


def test_meanings_of_a_class_without_source_are_those_of_its_docstring():
    made = type(
        "Made", (), {"__doc__": "One.\n\nArgs:\n    a, b: two\n        lines.\n    c: three.\n\nRaises:\n    E: no.\n"}
    )
    assert meanings(made) == {"a": "two lines.", "b": "two lines.", "c": "three."}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Merton-v0", "relative risk aversion"),
        ("FirmIndustry", "demand_elasticity"),
        ("npi", "Seed of everything random"),
    ],
)
def test_list_shows_one(name, said, capsys):
    assert main(["list", name]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_list_of_an_unknown_name_suggests_another(capsys):
    assert main(["list", "Mertn-v0"]) == 2
    assert "did you mean 'Merton-v0'?" in capsys.readouterr().err
