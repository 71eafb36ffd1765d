"""Names: how `gym.make("Merton-v0", **parameters)` finds a problem."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from hacontrol_envs.core.parameters import refuse_unlisted
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.lazy import RENAMED

if TYPE_CHECKING:
    from hacontrol_envs.economies.economy import Economy

NAMESPACE = "hacontrol"

_ECONOMIES: dict[str, type[Economy]] = {}
_PROBLEMS: dict[str, type[Problem]] = {}
"""By the name of their class."""


def register(id: str, problem: type[Problem], *, dt: float, max_episode_steps: int, scheme: str = "exact") -> None:
    """Make a problem available as `gym.make(id)` and `gym.make_vec(id)`.

    The canonical id is "hacontrol/" + id; the bare id is an alias, unless somebody else holds it.

    Args:
        id: name and version, such as "Merton-v0".
        problem: the class; its constructor's parameters become keyword arguments of `gym.make`.
        dt: default length of a step, in the problem's unit of time.
        max_episode_steps: after how many steps an infinite horizon is cut off (truncation) unless `gym.make` is told
            otherwise. A finite horizon terminates at T and is never cut off.
        scheme: default scheme; "euler" or "milstein" where the problem does not know its exact transition.
    """
    path = f"{problem.__module__}:{problem.__qualname__}"
    _PROBLEMS[problem.__qualname__] = problem
    kwargs = {"problem": path, "dt": dt, "episode_steps": max_episode_steps, "scheme": scheme}
    for name in (f"{NAMESPACE}/{id}", id):
        held = gym.registry.get(name)
        if held is None or held.kwargs.get("problem") == path:
            gym.registry.pop(name, None)
            gym.register(
                name,
                entry_point="hacontrol_envs.env:make_env",
                vector_entry_point="hacontrol_envs.env:make_vector_env",
                kwargs=kwargs,
            )


def registered_ids() -> list[str]:
    """Return the bare ids of every problem registered with hacontrol, sorted."""
    return sorted(name.split("/", 1)[1] for name in gym.registry if name.startswith(f"{NAMESPACE}/"))


def register_economy(id: str, economy: type[Economy]) -> None:
    """Make an economy, whose equilibrium is to be found, known to the leaderboard under this name."""
    _ECONOMIES[id] = economy


def registered_economies() -> dict[str, type[Economy]]:
    """Return every registered economy by name."""
    return dict(sorted(_ECONOMIES.items()))


def build_problem(path: str, parameters: dict[str, Any]) -> Problem:
    """Make the problem at "module:Class" with these parameters.

    A saved spec may name the module in which a registered class once was: then the class is found by its name.

    Raises:
        ParameterError: a name that the problem does not have, with the nearest that it has.
    """
    problem, name = _class_at(path), path.partition(":")[2]
    taken = inspect.signature(problem.__init__).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):  # else it refuses them itself
        known = [*inspect.signature(problem).parameters, "dt", "scheme", "episode_steps", "render_mode"]
        refuse_unlisted(name, known, parameters)
    return problem(**parameters)


def problem_class(id: str) -> type[Problem] | None:
    """Find the class of the problem behind an environment's id; None where Gymnasium knows none of ours by it."""
    spec = gym.registry.get(id)
    path = None if spec is None else spec.kwargs.get("problem")
    return None if path is None else _class_at(path)


def _class_at(path: str) -> type[Problem]:
    """The class at "module:Class", or, where the module is no more, the registered one of that name."""
    module, _, name = path.partition(":")
    name = RENAMED.get(name, name)
    try:
        problem: type[Problem] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        if name not in _PROBLEMS:
            raise
        problem = _PROBLEMS[name]
    return problem
