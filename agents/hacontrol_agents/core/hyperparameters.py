"""Hyperparameters checked against their annotations, whether a caller, a suite or a file gives them.

Every agent reads its own more narrowly after this. Here it is made sure that each has its type, is finite, and that no
network, table or batch is asked for that a machine could not hold: numbers of things are at most MOST, layers at most
WIDEST wide and DEEPEST many, networks at most `sizes.MOST_WEIGHTS` weights.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal

import numpy as np

from hacontrol_agents.core.plain import refuse_unplain
from hacontrol_agents.learning.sizes import refuse_large
from hacontrol_envs.core.parameters import count, number, one_of, short
from hacontrol_envs.errors import ParameterError

MOST = 1_000_000
"""Largest value of a hyperparameter that counts something."""
FEWER = {"num_envs": 65_536, "economies": 16_384, "moments": 256}
"""Largest values of hyperparameters that count large things, by name."""
WIDEST = 16_384
"""Largest width of a hidden layer."""
DEEPEST = 32
"""Largest number of hidden layers."""


def checked(kind: type, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each given hyperparameter of a class, checked against its annotation; NumPy's scalars
    become Python's.

    Raises:
        ParameterError: one has another type, is not finite, or is too large.
    """
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # a class of somebody else, whose annotations are for a type checker only
        hints = {}
    for name, value in given.items():
        yield name, _read(name, value.item() if isinstance(value, np.generic) else value, hints.get(name, Any))


def _read(name: str, value: Any, hint: Any) -> Any:
    kind, options = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, UnionType):
        if value is None and NoneType in options:
            return None
        (hint,) = [option for option in options if option is not NoneType][:1]
        return _read(name, value, hint)
    if kind is Literal:
        return one_of(name, value, options)
    if kind is tuple:
        return read_widths(name, value)
    if kind is int:
        least = 0 if type(value) is int and value == 0 else 1  # whether 0 makes sense is for the agent to say
        return count(name, value, at_least=least, at_most=FEWER.get(name, MOST))
    if kind is float:
        number(name, value)
    elif (kind is bool and not isinstance(value, bool)) or (kind is str and not isinstance(value, str)):
        raise ParameterError(f"{name} must be a {'truth value' if kind is bool else 'word'}, got {short(value)}")
    elif kind is dict:
        if not isinstance(value, dict):
            raise ParameterError(f"{name} must be a dictionary, got {short(value)}")
        refuse_unplain(name, value)
    return value


def read_widths(name: str, value: Any) -> tuple[int, ...]:
    """Return the widths of a network's hidden layers as a tuple.

    Raises:
        ParameterError: they are not whole numbers, or the layers too wide or too many.
    """
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) > DEEPEST:
        raise ParameterError(
            f"{name} must be a tuple of the layers' widths, such as (32, 32), at most {DEEPEST} of them, "
            f"got {short(value)}"
        )
    widths = tuple(count("a layer's width", width, at_most=WIDEST) for width in value)
    refuse_large(widths)
    return widths


def refuse_device(device: str) -> None:
    """Raise ParameterError where torch does not find a device, or finds one that holds no numbers."""
    if device == "cpu":
        return
    import torch  # which agents that learn nothing do without

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ParameterError(f"device must be one that torch finds, such as 'cpu', got {device!r}") from error
    if torch.device(device).type == "meta":
        raise ParameterError("device must hold numbers, which 'meta' does not")
