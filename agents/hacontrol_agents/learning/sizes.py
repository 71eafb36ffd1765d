"""How large a network may be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hacontrol_envs.errors import ParameterError

MOST_WEIGHTS = 10_000_000
"""Most weights of a network; a larger one is taken for a mistake, or for an attack on the machine's memory."""


def refuse_large(widths: Sequence[int]) -> None:
    """Raise ParameterError where full layers between these widths have more than MOST_WEIGHTS weights."""
    weights = sum((i + 1) * o for i, o in pairwise(widths))
    if weights > MOST_WEIGHTS:
        raise ParameterError(f"a network of {weights} weights is more than the {MOST_WEIGHTS} that are allowed")
