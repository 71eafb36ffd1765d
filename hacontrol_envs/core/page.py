"""The page of an environment or an economy, in Markdown, from what its classes say."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.discrete import DiscreteProblem
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.meanings import meanings
from hacontrol_envs.core.problem import ControlProblem, Problem
from hacontrol_envs.core.registration import build_problem

MANY = 12
"""Components of a box from which on those with a common name and a number share a row."""


def page(id: str) -> str:
    """Return the page of a registered environment at its defaults."""
    given = gym.spec(id).kwargs
    problem = build_problem(given["problem"], {})
    return environment_page(id, problem, given["dt"], given["scheme"], given["episode_steps"])


def environment_page(id: str | None, problem: Problem, dt: float, scheme: str, episode_steps: int | None) -> str:
    """Return the page of a sampled problem.

    Args:
        id: name of the environment; None leaves out how to make and plot it.
        problem: the problem, at the parameters that the page tells.
        dt: length of a step, in the problem's unit of time.
        scheme: how steps are computed, such as "exact".
        episode_steps: steps after which an infinite horizon is truncated; None for never.
    """
    kind = type(problem)
    parts = [f"# {id or kind.__name__}", description(kind)]
    parts += ["## In short", table(["", ""], _facts(problem, dt, scheme, episode_steps))]
    parts += ["## Observation", _observation(problem), "## Action", _action(problem.action)]
    parts += ["## Parameters", parameter_table(kind), *(_plot(id, problem) if id else [])]
    return "\n\n".join(parts) + "\n"


def economy_page(name: str, economy: type) -> str:
    """Return the page of an economy: its equations, parameters and what it answers.

    Where the class names its `solver`, a method, that is how the truth is known; its `example` is code that draws it.
    """
    calls = [
        (f"`{one}`", _first(what))
        for one, what in vars(economy).items()
        if not one.startswith("_") and (inspect.isfunction(what) or isinstance(what, (property, cached_property)))
    ]
    parts = [f"# {name}", description(economy), "## Parameters", parameter_table(economy)]
    if solver := getattr(economy, "solver", ""):
        parts += ["## How the truth is known", f"`{solver}`: {description(getattr(economy, solver))}"]
    parts += ["## What it answers", table(["name", "meaning"], calls)]
    parts += ["## Plot", f"```python\n{inspect.cleandoc(economy.example)}\n```"] if hasattr(economy, "example") else []
    return "\n\n".join(parts) + "\n"


def description(kind: Any) -> str:
    """Return the docstring of a class or a function up to its arguments, as Markdown shows it."""
    text = re.split(r"(?m)^(?:Args|Raises):$", inspect.getdoc(kind) or "")[0].strip()
    return re.sub(r"(?<=\))_", r"\\_", text)  # a subscript, which Markdown would take for emphasis


def parameter_table(kind: type) -> str:
    """Return name, default, meaning and unit of each argument of the constructor.

    A unit ends a meaning, in brackets: "T. [years]."
    """
    said, rows = meanings(kind), []
    for one in inspect.signature(kind).parameters.values():
        meaning, unit = re.fullmatch(r"(.*?)\s*(?:\[([^\[\]]*)\]\.)?", said.get(one.name, "")).groups()  # type: ignore[union-attr]
        rows.append(
            (f"`{one.name}`", _default(kind, one), meaning if meaning.endswith(".") else f"{meaning}.", unit or "")
        )
    columns = 4 if any(row[-1] for row in rows) else 3
    return table(["name", "default", "meaning", "unit"][:columns], [row[:columns] for row in rows])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of cells that hold Markdown."""
    every = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in every)


def _default(kind: type, parameter: inspect.Parameter) -> str:
    """The default; where variants of the parameters have others, or not all have it, theirs."""
    made = {one.name: one.default_factory for one in fields(kind)} if is_dataclass(kind) else {}
    factory = made.get(parameter.name, MISSING)
    default = parameter.default if factory is MISSING else factory()
    shown = f"`{default!r}`" if default is not parameter.empty else "required"
    lists = getattr(kind, "parameter_lists", ())
    held = {one.name: {field.name: field.default for field in fields(one)} for one in lists} if len(lists) > 1 else {}
    having = [name for name, known in held.items() if parameter.name in known]
    if len(having) == 1:
        return f"{shown}, only `{having[0]!r}`"
    other = [name for name in having[1:] if held[name][parameter.name] != held[having[0]][parameter.name]]
    return shown + "".join(f", `{held[name][parameter.name]!r}` in `{name!r}`" for name in other)


def _facts(problem: Problem, dt: float, scheme: str, episode_steps: int | None) -> list[tuple[str, str]]:
    kind, horizon = type(problem), problem.horizon
    gamma = math.exp(-problem.discount * dt)
    steps = f"truncated after {episode_steps} steps (time {number(dt * (episode_steps or 0))})"
    end = f"terminated at T = {number(horizon)}" if horizon else steps if episode_steps else "never"
    finite = "; with a finite `horizon`, terminated there" if not horizon and "horizon" in problem.parameters else ""
    reward = _first(kind.reward)  # type: ignore[attr-defined]
    found = [
        ("class", f"`{kind.__module__}.{kind.__name__}`"),
        ("reward", f"{reward} {_paid(problem, dt)}"),
        ("discount", f"rate {number(problem.discount)} per unit of time; {number(gamma)} per step"),
        ("time step", f"`dt={dt!r}`, scheme {scheme!r}; time is in {problem.time_unit}"),
        ("start", _first(kind.initial_state)),
        ("end", f"{end}{finite}"),
        ("how the truth is known", _truth(kind)),
    ]
    if horizon:
        found.insert(2, ("terminal reward", _first(kind.terminal_reward)))
    return found


def _truth(kind: type[Problem]) -> str:
    """How the optimum is known; that of a diffusion need not be."""
    if kind.solution is not Problem.solution:
        return _first(kind.solution)
    return "It is not: policies are certified." if issubclass(kind, ControlProblem) else "It is not."


def _paid(problem: Problem, dt: float) -> str:
    if isinstance(problem, DiscreteProblem):
        return "A step pays that of its period."
    middle = problem.state.from_unit(0 * problem.state.center), problem.action.from_unit(0 * problem.action.center)
    if problem.exact_reward(0.0, middle[0][None], middle[1][None], dt) is None:
        return "A step pays r at its start times the discounted length of the step."
    return "A step pays the expected integral of r over it, discounted to its start."


def _observation(problem: Problem) -> str:
    box, (least, most) = problem.observation, problem.observation_bounds
    rows = _rows(box, [_bounds(low, high) for low, high in zip(least, most, strict=True)])
    size = box.dimension
    if problem.horizon:
        rows.append((str(size), "time to go, a share of T (from 0 to 1)", "", "", "", "linear", "0 to 1"))
        size += 1
    head = ["number", "component", "unit", "-1 is", "1 is", "scale", "bounds"]
    lead = f"`float32`, `({size},)`. Columns say what -1 and 1 stand for; values may lie outside,"
    return f"{lead} within the bounds.\n\n{table(head, rows)}"


def _action(box: Domain) -> str:
    rows = [row[:-1] for row in _rows(box, [""] * box.dimension)]
    head = ["number", "component", "unit", "-1 is", "1 is", "scale"]
    return f"`float32`, `({box.dimension},)`, from -1 to 1; columns say what these stand for.\n\n{table(head, rows)}"


def _rows(box: Domain, bounds: Sequence[str]) -> list[tuple[str, ...]]:
    """A row of a box's table for each component; where there are many, those of a common name share one."""
    many = box.dimension > MANY
    stems = [re.sub(r" ?\d+$", "", name) if many else str(place) for place, name in enumerate(box.names)]
    rows: list[tuple[str, ...]] = []
    for _, group in itertools.groupby(range(box.dimension), key=stems.__getitem__):
        first, *rest = group
        last = rest[-1] if rest else first
        place, name = str(first), box.names[first]
        if last > first:
            place, name = f"{first} to {last}", f"{name} to {box.names[last].split()[-1]}"
        low, high = _span(box.low[first : last + 1]), _span(box.high[first : last + 1])
        rows.append((place, name, box.units[first], low, high, box.scales[first], bounds[first]))
    return rows


def _span(ends: Floats) -> str:
    low, high = number(ends.min()), number(ends.max())
    return low if low == high else f"{low} to {high}"


def _bounds(low: float, high: float) -> str:
    return "none" if low == -high == -float("inf") else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:.4g}"


def _plot(id: str, problem: Problem) -> list[str]:
    code = [
        "import gymnasium as gym",
        "",
        "import hacontrol_envs  # registers all environments",
        "",
        f'env = gym.make("{id}", render_mode="rgb_array")',
        "env.reset(seed=0)",
        "for _ in range(20):",
        "    env.step(env.action_space.sample())",
        "frame = env.render()  # (height, width, 3), the episode so far",
    ]
    parts = ["## Plot", "```python\n" + "\n".join(code) + "\n```"]
    if type(problem).solution is not Problem.solution:
        agent = " --agent deqn" if isinstance(problem, DiscreteProblem) else ""
        optimum = "`env.unwrapped.problem.solution()` has value, policy, `kind`, `source` and `error`."
        parts += [f"{optimum} Learned against it, in one figure:", f"    hacontrol compare {id}{agent}"]
    elif isinstance(problem, ControlProblem):
        lead = "What is learned in one figure, with bounds on what it may lose against the optimum, which is not known:"
        parts += [lead, f"    hacontrol compare {id}"]
    return parts


def _first(what: Any) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(what) or "").split("\n\n")[0].split())
