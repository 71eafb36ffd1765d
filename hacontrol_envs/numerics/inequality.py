"""Inequality: Lorenz curves, and the Gini coefficient of a histogram of assets with its derivative in the masses."""

from __future__ import annotations

import numpy as np

from hacontrol_envs.arrays import Floats


def lorenz(values: Floats, masses: Floats) -> tuple[Floats, Floats]:
    """Return the Lorenz curve of values (M,) that people of these masses (M,) hold.

    Returns:
        Shares of people, poorest first, and of what they hold together, (M + 1,) each, from 0 to 1.
    """
    order = np.argsort(values, kind="stable")
    people, held = np.cumsum(masses[order]), np.cumsum((masses * values)[order])
    return np.append(0.0, people / people[-1]), np.append(0.0, held / held[-1])


def gini(law: Floats, assets: Floats) -> Floats:
    """Return the Gini coefficient, half the mean distance of two households' assets over mean assets, (...).

    Args:
        law: masses of households by state and assets, (..., n_e, n_a).
        assets: nodes in increasing order, (n_a,).
    """
    masses = np.asarray(law).sum(axis=-2)
    found: Floats = (masses * _distances(masses, assets)).sum(axis=-1) / (2 * masses @ assets)
    return found


def gini_gradient(law: Floats, assets: Floats) -> Floats:
    """Return the derivative of `gini` in the mass of each cell, (..., n_e, n_a), at a law whose mass stays one."""
    masses = np.asarray(law).sum(axis=-2)
    mean = (masses @ assets)[..., None]
    slope = _distances(masses, assets) / mean - gini(law, assets)[..., None] * assets / mean
    return np.broadcast_to(slope[..., None, :], np.shape(law))


def _distances(masses: Floats, assets: Floats) -> Floats:
    """Mean distance of everybody's assets from each node, (..., n_a), of masses (..., n_a) that sum to one."""
    people, wealth = np.cumsum(masses, axis=-1), np.cumsum(masses * assets, axis=-1)
    found: Floats = assets * (2 * people - people[..., -1:]) + wealth[..., -1:] - 2 * wealth
    return found
