"""Names of agents: how `make_agent("npi", env=env)` finds a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacontrol_envs.core.parameters import refuse_unknown, short
from hacontrol_envs.errors import UnknownNameError, nearest

if TYPE_CHECKING:
    from hacontrol_agents.core.agent import Learner

_AGENTS: dict[str, type[Learner]] = {}


def register_agent(kind: type[Learner]) -> None:
    """Make a class of learners known by its `name`."""
    _AGENTS[kind.name] = kind


def agents() -> dict[str, type[Learner]]:
    """Every known agent by name."""
    return dict(sorted(_AGENTS.items()))


def find_agent(name: str) -> type[Learner]:
    """The agent of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in _AGENTS:
        hint, known = nearest(str(name)[:100], agents()), ", ".join(agents())
        raise UnknownNameError(f"no agent is called {short(name)}; {hint}there are: {known}")
    return _AGENTS[name]


def make_agent(name: str, **arguments: Any) -> Any:
    """An agent by name: `make_agent("npi", env=env, seed=0)`.

    Raises:
        UnknownNameError: no agent has the name.
        ParameterError: the agent has no such hyperparameter.
    """
    kind = find_agent(name)
    refuse_unknown(name, kind, arguments)
    return kind(**arguments)
