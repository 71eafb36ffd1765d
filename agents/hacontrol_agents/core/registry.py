"""Registry of agents by name, in which `make_agent("npi", env=env)` finds a class."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hacontrol_envs.core.parameters import refuse_unknown, short
from hacontrol_envs.errors import UnknownNameError, nearest

if TYPE_CHECKING:
    from hacontrol_agents.core.learner import Learner

BUILT_IN = {
    "analytic": "hacontrol_agents.baselines.analytic:AnalyticAgent",
    "ctq": "hacontrol_agents.q_learning.ctq:CTQLearning",
    "dac": "hacontrol_agents.baselines.sb3:DiscretizedActorCritic",
    "deqn": "hacontrol_agents.euler.deqn:DEQN",
    "deqn-published": "hacontrol_agents.euler.published_deqn:PublishedDEQN",
    "hjb-fp-pinn": "hacontrol_agents.equilibrium.hjb_fokker_planck_pinn:HJBFokkerPlanckPinn",
    "hjb-fp-published": "hacontrol_agents.equilibrium.published_firm_pinn:PublishedFirmPinn",
    "hjb-pinn": "hacontrol_agents.hjb.hjb_pinn:HJBPinn",
    "market-clearing": "hacontrol_agents.equilibrium.market_clearing:MarketClearing",
    "npi": "hacontrol_agents.hjb.neural_policy_iteration:NeuralPolicyIteration",
    "ppo": "hacontrol_agents.baselines.sb3:PPOAgent",
    "random": "hacontrol_agents.baselines.analytic:RandomAgent",
    "reference": "hacontrol_agents.baselines.analytic:ReferenceAgent",
    "sac": "hacontrol_agents.baselines.sb3:SACAgent",
    "steady-state": "hacontrol_agents.baselines.analytic:SteadyStateAgent",
    "td3": "hacontrol_agents.baselines.sb3:TD3Agent",
}
"""Our own agents, as "module:Class": a module is imported, and registers its agents, when one of them is asked for."""

_AGENTS: dict[str, type[Learner]] = {}
"""Agents that are imported, by name."""


def register_agent(kind: type[Learner]) -> None:
    """Make a class of learners known by its `name`, instead of what had the name before."""
    module = _module(kind.name)
    if module and module != kind.__module__:
        importlib.import_module(module)  # before, lest it take the name back when it is imported
    _AGENTS[kind.name] = kind


def agent_classes() -> dict[str, str]:
    """Return the class name of every known agent by the agent's name, without importing any."""
    built_in = {name: path.partition(":")[2] for name, path in BUILT_IN.items()}
    return dict(sorted({**built_in, **{name: kind.__name__ for name, kind in _AGENTS.items()}}.items()))


def agents() -> dict[str, type[Learner]]:
    """Return every known agent class by name. Import those that are not imported yet."""
    return {name: find_agent(name) for name in agent_classes()}


def find_agent(name: str) -> type[Learner]:
    """Return the agent class of this name. Import it if it is built in.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in _AGENTS and (module := _module(name)):
        importlib.import_module(module)
    if name not in _AGENTS:
        hint, known = nearest(str(name)[:100], agent_classes()), ", ".join(agent_classes())
        raise UnknownNameError(f"no agent is called {short(name)}; {hint}there are: {known}")
    return _AGENTS[name]


def make_agent(name: str, **arguments: Any) -> Any:
    """Return a new agent by name: `make_agent("npi", env=env, seed=0)`.

    Raises:
        UnknownNameError: no agent has the name.
        ParameterError: the agent has no such hyperparameter.
    """
    kind = find_agent(name)
    refuse_unknown(name, kind, arguments)
    return kind(**arguments)


def _module(name: str) -> str:
    """Return the module of one of our own agents; empty where none of them has the name."""
    return BUILT_IN.get(name, "").partition(":")[0]
