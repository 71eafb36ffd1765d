"""Judge Brock and Mirman: constant saving shares are worth a sum over time, computed by linear algebra in fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from hacontrol_benchmarks.measure.judges.draws import Uniform, log_uniform, require_close
from hacontrol_envs import BrockMirman

EPS = float(np.finfo(float).eps)


def draw(u: Uniform) -> dict[str, Any]:
    """Draw discount factors to 1 - 1e-9, capital shares from .011, any persistence, deviations from 1e-8 to 30."""
    share = log_uniform(u, 0.011, 0.99) if u() < 0.7 else 1 - log_uniform(u, 0.01, 0.5)
    sign = 1 if u() < 0.8 else -1
    return {
        "discount_factor": 1 - log_uniform(u, 1e-9, 0.9),
        "capital_share": share,
        "productivity_persistence": sign * (1 - log_uniform(u, 1e-12, 1.0)),
        "productivity_deviation": log_uniform(u, 1e-8, 30.0),
    }


def judge(parameters: dict[str, Any]) -> None:
    """Compare the value with that of its own saving share summed over time, and with those of other shares."""
    p = BrockMirman(**parameters)
    x = p.state.from_unit(np.random.default_rng(0).uniform(-1, 1, (5, 2)))
    found = p.solution()
    V, share = found.value(0.0, x), found.policy(0.0, x)[:, 0]
    require_close("the saving share", share, p.capital_share * p.discount_factor, 2 * EPS, parameters)
    s = float(share[0])
    worth, size = _worth(p, s, x)
    require_close("V", V, worth, 20 * EPS * size, parameters)
    for other in (0.5 * s, 0.99 * s, s + 0.01 * (1 - s), s + 0.5 * (1 - s)):
        rival, rival_size = _worth(p, other, x)
        require_close("gain of another share", np.maximum(rival - V, 0.0), 0.0, 20 * EPS * rival_size, parameters)
    noise = np.array([[-3.0], [0.0], [0.0], [1.0], [3.0]])
    moved, paid = p.exact_transition(0.0, x, share[:, None], 1.0, noise)
    require_close("a step", moved, moved, 0.0, parameters)
    require_close("a reward", paid, paid, 0.0, parameters)
    residual = p.bellman_residual(x, share[:, None], lambda y: found.value(0.0, y))
    require_close("Bellman residual", residual, 0.0, 1e-13 * size, parameters)


def _worth(p: BrockMirman, s: float, x: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Sum over time of beta^t E log c_t while the share s is saved, from states x (N, 2), and the size of its terms.

    E (log K, log Z) moves by F = (alpha 1; 0 rho) and a constant, so that sum beta^t F^t = (1 - beta F)^{-1}.
    """
    alpha, beta, rho = (Fraction(v) for v in (p.capital_share, p.discount_factor, p.productivity_persistence))
    # w (1 - beta F) = (alpha, 1): by Cramer's rule on the transposed system
    a, b, d = 1 - alpha * beta, -beta, 1 - beta * rho
    weights = np.array([float(alpha / a), float((a - b * alpha) / (a * d))])
    constant = (math.log1p(-s) + float(beta * alpha / a) * math.log(s)) / float(1 - beta)
    logs = np.log(x)
    return constant + logs @ weights, abs(constant) + np.abs(logs) @ weights
