"""What a file may make: an environment or an economy by its registered name, with plain parameters.

Files, suites and command lines are data. They name what is registered, and give it numbers, words and lists; whatever
Gymnasium and the registration themselves are told, such as the class of the problem, is not theirs to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym

import hacontrol_envs
from hacontrol_agents.core.plain import refuse_unplain, shown
from hacontrol_envs.core.parameters import short
from hacontrol_envs.errors import HacontrolError, ParameterError, UnknownNameError, nearest
from hacontrol_envs.simulation.env import make_env, make_vector_env

SETTING = ("dt", "scheme", "episode_steps")
"""How an environment meets its problem; the other parameters are the problem's own."""
LONGEST = 100
"""Characters of a parameter's name."""
RESERVED = frozenset(
    name
    for make in (gym.make, gym.make_vec, make_env, make_vector_env)
    for name, parameter in inspect.signature(make).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
) - set(SETTING) | {"self", "entry_point", "vector_entry_point", "kwargs"}
"""Keyword arguments that are not a file's to give."""


def make_subject(name: str, parameters: Mapping[str, Any]) -> Any:
    """The registered economy of this name, or the registered environment of this id, with these parameters.

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
    refuse_reserved(name, parameters)
    try:
        made: Any = economies[name](**parameters) if name in economies else gym.make(name, **parameters)
    except HacontrolError as error:  # to which Gymnasium has added all the arguments, however long
        raise error.__cause__ if isinstance(error.__cause__, HacontrolError) else error from None
    except (ArithmeticError, MemoryError, ValueError) as error:
        raise ParameterError(
            f"{name} has a parameter too large or too small to compute with: {shown(error)}"
        ) from error
    return made


def refuse_reserved(name: str, parameters: Mapping[str, Any], but: Iterable[str] = ()) -> None:
    """Raise ParameterError for a parameter that is not a file's to give, or whose value is not plain."""
    for key, value in parameters.items():
        if not key.isidentifier() or len(key) > LONGEST:
            raise ParameterError(f"{short(key)} cannot be a parameter of {name}: it is no name")
        if key in RESERVED or key in but:
            raise ParameterError(
                f"{key!r} is not a parameter of {name}: a file, a suite or a command line gives parameters of the "
                f"problem, and {', '.join(SETTING)}"
            )
        refuse_unplain(key, value)
