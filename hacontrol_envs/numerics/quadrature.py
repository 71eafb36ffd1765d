"""Expectations over standard normals by quadrature."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product

import numpy as np

from hacontrol_envs.arrays import Floats


def gauss_hermite(order: int, dimension: int) -> tuple[Floats, Floats]:
    """Return nodes (k, d) and weights (k,), k = order^d, for E f(Z), Z standard normal; exact to degree 2 order - 1."""
    node, weight = _rule(order)
    nodes = np.array(list(product(node, repeat=dimension)))
    return nodes, np.array([math.prod(row) for row in product(weight / weight.sum(), repeat=dimension)])


@lru_cache(maxsize=16)
def _rule(order: int) -> tuple[Floats, Floats]:
    return np.polynomial.hermite_e.hermegauss(order)
