"""The text of `hacontrol list NAME`: the page of an environment or an economy, or an agent's hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gymnasium as gym

from hacontrol_agents import agents
from hacontrol_envs import registered_economies, registered_ids
from hacontrol_envs.core.page import description, economy_page, page, parameter_table
from hacontrol_envs.core.parameters import short
from hacontrol_envs.errors import UnknownNameError, nearest


def entry(name: str) -> str:
    """Return what there is to know of an environment, an economy or an agent, in Markdown.

    Raises:
        UnknownNameError: nothing has this name.
    """
    known: dict[str, Callable[[], str]] = {id: partial(page, id) for id in registered_ids()}
    known |= _economy_pages() | {agent: partial(_agent_page, agent) for agent in agents()}
    if name not in known:
        raise UnknownNameError(
            f"no environment, economy or agent is called {short(name)}; "
            f"{nearest(name[:100], known)}there are: {', '.join(known)}"
        )
    return known[name]()


def committed_pages() -> dict[str, Callable[[], str]]:
    """Return a function that makes the page of each environment and economy of this repository, by name."""
    ours = [id for id in registered_ids() if gym.spec(id).kwargs["problem"].startswith("hacontrol_envs.")]
    economies = {
        name: make
        for name, make in _economy_pages().items()
        if registered_economies()[name].__module__.startswith("hacontrol_envs.")
    }
    return {**{id: partial(page, id) for id in ours}, **economies}


def _economy_pages() -> dict[str, Callable[[], str]]:
    return {name: partial(economy_page, name, economy) for name, economy in registered_economies().items()}


def _agent_page(name: str) -> str:
    kind = agents()[name]
    return f"# {name}\n\n{description(kind)}\n\n## Hyperparameters\n\n{parameter_table(kind)}\n"
