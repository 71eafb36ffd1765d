"""Environments and economies made as files name them: by registered name, with plain parameters.

Files, suites and command lines are data. They name what is registered, and give it numbers, words and lists; whatever
Gymnasium and the registration themselves are told, such as the class of the problem, is not theirs to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym

import hacontrol_envs
from hacontrol_agents.core.plain import as_tuples, refuse_unplain, shown
from hacontrol_envs.core.parameters import refuse_unknown, refuse_unlisted, short
from hacontrol_envs.errors import CheckpointError, HacontrolError, ParameterError, UnknownNameError, nearest
from hacontrol_envs.simulation.env import make_env, make_vector_env

SETTING = ("dt", "scheme", "episode_steps")
"""Names of an environment's parameters that belong to its sampling; the other parameters are the problem's own."""
LONGEST = 100
"""Most characters of a parameter's name."""
RESERVED = frozenset(
    name
    for make in (gym.make, gym.make_vec, make_env, make_vector_env)
    for name, parameter in inspect.signature(make).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
) - set(SETTING) | {"self", "entry_point", "vector_entry_point", "kwargs"}
"""Keyword arguments that a file may not give."""


def make_subject(name: str, parameters: Mapping[str, Any]) -> Any:
    """Return the registered economy of this name, or the registered environment of this id, with these parameters.

    Raises:
        UnknownNameError: nothing of ours is registered under the name.
        ParameterError: a parameter that is reserved or not plain, or that the subject refuses.
    """
    economies = hacontrol_envs.registered_economies()
    known = [*hacontrol_envs.registered_ids(), *economies]
    if name not in known:
        raise UnknownNameError(
            f"no environment is called {short(name)}; {nearest(short(name)[1:-1], known)}there are: {', '.join(known)}"
        )
    if name not in economies:
        return _made(name, partial(gym.make, name), parameters)
    refuse_reserved(name, parameters)
    refuse_unknown(name, economies[name], parameters)
    return _made(name, economies[name], parameters)


def make_saved_env(record: Mapping[str, Any]) -> Any:
    """Return the environment that a saved agent's record names by the class of its problem.

    Raises:
        CheckpointError: no registered problem has the class.
        ParameterError: a parameter that is reserved or not plain, or that the problem refuses.
    """
    refuse_unlisted("the environment of a saved agent", SETTING, record["env"])
    refuse_reserved(record["agent"], record["parameters"], but=SETTING)
    id = _id_of(record["problem"])
    if id is None:
        raise CheckpointError(f"no registered problem is called {shown(record['problem'])}; pass env= to load")
    return make_subject(id, {**record["env"], **as_tuples(record["parameters"])})


def make_saved_economy(record: Mapping[str, Any]) -> Any:
    """Return the economy, or problem with Euler conditions, in the record of an agent saved without an environment.

    Raises:
        CheckpointError: none that is known has the class.
        ParameterError: a parameter that is reserved or not plain, or that the class refuses.
    """
    name, parameters = record["problem"], as_tuples(record["parameters"])
    id, economies = _id_of(name), hacontrol_envs.registered_economies()
    if id is not None:
        refuse_reserved(name, parameters, but=SETTING)
        return make_subject(id, parameters).unwrapped.problem
    if not hasattr(economies.get(name), "conditions"):
        raise CheckpointError(f"no economy or problem that we know is called {shown(name)}; pass economy= to load")
    return _made(name, economies[name], parameters)


def _id_of(problem: str) -> str | None:
    """Return the id under which the problem of this class is registered; None where there is none."""
    for id in hacontrol_envs.registered_ids():
        if str(gym.spec(id).kwargs.get("problem", "")).rpartition(":")[2] == problem:
            return id
    return None


def _made(name: str, make: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Return what `make` makes of parameters that a file gives."""
    refuse_reserved(name, parameters)
    try:
        return make(**parameters)
    except HacontrolError as error:  # to which Gymnasium has added all the arguments, however long
        raise error.__cause__ if isinstance(error.__cause__, HacontrolError) else error from None
    except (ArithmeticError, MemoryError, ValueError) as error:
        raise ParameterError(
            f"{name} has a parameter too large or too small to compute with: {shown(error)}"
        ) from error


def refuse_reserved(name: str, parameters: Mapping[str, Any], but: Iterable[str] = ()) -> None:
    """Raise ParameterError for a parameter that a file may not give, or whose value is not plain.

    Args:
        name: the environment or economy, for the error.
        parameters: parameters by name.
        but: further names that may not be given.
    """
    for key, value in parameters.items():
        if not key.isidentifier() or len(key) > LONGEST:
            raise ParameterError(f"{short(key)} cannot be a parameter of {name}: it is no name")
        if key in RESERVED or key in but:
            raise ParameterError(
                f"{key!r} is not a parameter of {name}: a file, a suite or a command line gives parameters of the "
                f"problem, and {', '.join(SETTING)}"
            )
        refuse_unplain(key, value)
