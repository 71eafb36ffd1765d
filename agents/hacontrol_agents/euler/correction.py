"""corrected: a saving rule after one Newton step on its Euler equation, at points from which it was not learnt."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.euler.euler_residual import Batch, EulerResidual
from hacontrol_agents.euler.saving_rule import SavingRule

MOST_APART, MOST_LEFT, MOST_STRAYED = 3e-4, 1e-4, 1e-3
"""Largest distance from the rule after a step, root mean square of what the step leaves of the residual, and share of
savers who have strayed, of a rule that is certified."""
POINTS = 8192
"""Points at which the step is taken: many more than weights, so that what no network can represent averages out."""
DAMPING = 1e-6
"""Damping of the normal equations, relative to their largest diagonal entry. With less, the step of a rule with kinks
is noise."""


class Correction(NamedTuple):
    """What one Newton step makes of a rule."""

    rule: SavingRule
    """The rule after the step; where it is that of the equation the two differ by the error of the first, to first
    order, as far as the network can represent it."""
    before: Tensor
    """Residuals of the rule, (N,)."""
    left: Tensor
    """Residuals that the step leaves, to first order, (N,)."""


def corrected(residual: EulerResidual, batch: Batch) -> Correction:
    """Return the rule after a Gauss-Newton step on the Euler equation at the points of a batch.

    The step solves (1 - L) e = r in the span of the network's derivatives, r the residual and L what consumption later,
    and everybody's saving, say of consumption now. So e, unlike r, counts what errors add up to over time.

    Args:
        residual: that of the rule, which stays as it is.
        batch: points that the rule has not seen.
    """
    shared = (residual.conditions, residual.rule.known)
    rule = copy.deepcopy(residual.rule, {id(one): one for one in shared})
    r, J = residual.with_jacobian(batch)
    normal = J.mT @ J
    normal.diagonal().add_(DAMPING * normal.diagonal().max())
    factor, failed = torch.linalg.cholesky_ex(normal)
    if failed:
        return Correction(rule, r, torch.full_like(r, torch.inf))
    step = torch.cholesky_solve((J.mT @ r)[:, None], factor)[:, 0]
    vector_to_parameters(parameters_to_vector(rule.parameters()).detach() - step, rule.parameters())
    return Correction(rule, r, r - J @ step)


def doubt(step: Correction, apart: float, strayed: float) -> str:
    """Return why a rule is not certified, and what to try; empty where it is.

    Args:
        step: what `corrected` makes of it.
        apart: how far what the two rules lead to is apart, relative.
        strayed: the share of savers who have come where nothing can be learnt.
    """
    left = float(step.left.square().mean().sqrt())
    learn = "learn on, or try another seed or a larger network"
    if not strayed <= MOST_STRAYED:
        return f"{strayed:.1%} of savers are ruined or at the top of the grid: {learn}, or raise asset_max"
    if not left <= MOST_LEFT:
        return f"its Euler equation leaves {left:.1g} of consumption that no small step mends: {learn}"
    if not apart <= MOST_APART:
        return f"a Newton step on its Euler equation changes what it leads to by {apart:.1g}: {learn}"
    return ""
