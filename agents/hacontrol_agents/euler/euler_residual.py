"""EulerResidual: error of a `SavingRule` in the Euler equation, and its derivatives in the rule's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from hacontrol_agents.euler.saving_rule import SavingRule
from hacontrol_agents.learning.row_jacobian import Call, jacobian

Complementarity = Literal["minimum", "fischer-burmeister"]
"""Name of the function that joins the Euler equation and the limit."""

AT_A_TIME = 2048
"""Points whose residual is found and differentiated at a time."""


class Batch(NamedTuple):
    """Points of B economies, n in each, and the economies' laws."""

    x: Tensor
    """Points of each economy, (B, n, d)."""
    mass: Tensor
    """Weights of the law of each economy, (B, R); R = 0 without a population."""
    cells: Tensor
    """Points of the savers whom the weights stand for, (B, R, d)."""


@final
class EulerResidual:
    """One residual a point: how much more, in logs, the Euler equation says should be consumed.

    With u'(c*) = beta E[R(x') u'(c(x'))] and m what is consumed at the limit, it is log(min(c*, m)/min(c, m)); or, as
    Fischer and Burmeister's function of s = m/c - 1 and g = c*/c - 1 (the expectation is inside it), s + g -
    sqrt(s^2 + g^2). Both are zero just where c = min(c*, m). The expectation is exact over what the conditions say may
    follow, x' depends on c through savings and on everybody's c through capital and the law's moments, and all of that
    is differentiated; with `full_gradient=False` only c and c' are, at given x'.

    Where c* < m <= c, nothing that a saver does depends on the network any more: there c is not cut, so that the
    network hears of it.

    Economies meet in what they have in common only, a few numbers each: capital and moments of the period after, and
    the moments now. So the Jacobian is that of rows (`row_jacobian`), plus derivatives in these numbers times theirs.
    """

    def __init__(self, rule: SavingRule, complementarity: Complementarity, full_gradient: bool) -> None:
        self.rule, self.conditions = rule, rule.conditions
        self.complementarity, self.full_gradient = complementarity, full_gradient

    def size(self, batch: Batch) -> int:
        """Return the number of points at which one evaluation of the residual needs the rule."""
        x = batch.x[:1, :1]
        successors: int = self.conditions.following(x, x[..., 0], x[..., 0]).probability.shape[-1]
        return batch.x[..., 0].numel() * (1 + successors) + batch.mass.numel()

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the residuals (B, n)."""
        shared, _ = self._shared(batch)
        return torch.cat([self._at(x, numbers[:, None, :])[0] for x, numbers in _parts(batch.x, shared)])

    def differentiate(self, batch: Batch) -> float:
        """Return the mean square of the residuals, and add its gradient to that of the rule's parameters."""
        shared, _ = self._shared(batch)
        known = shared.detach().requires_grad_()
        total = 0.0
        for x, numbers in _parts(batch.x, known):
            square = self._at(x, numbers[:, None, :])[0].square().sum() / batch.x[..., 0].numel()
            square.backward()  # type: ignore[no-untyped-call]
            total += float(square.detach())
        if shared.requires_grad and known.grad is not None:
            shared.backward(known.grad)  # type: ignore[no-untyped-call]
        return total

    def with_jacobian(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the residuals (B n,) and their Jacobian in the rule's parameters (B n, P)."""
        B, n = batch.x.shape[:2]
        with torch.enable_grad():
            shared, shared_calls = self._shared(batch)
            numbers = shared.unbind(-1) if shared_calls else ()
            meant = shared.detach()[:, None, :].expand(B, n, -1).clone().requires_grad_()
            residual, calls = self._at(batch.x, meant)
            outputs = [one.output for one in calls]
            *slopes, in_shared = torch.autograd.grad(residual, [*outputs, meant], torch.ones_like(residual), **_LOOSE)
        found = self._columns(calls, residual, slopes)
        for k, number in enumerate(numbers):
            of_shared = self._shared_columns(number, shared_calls)
            found.view(B, n, -1).addcmul_(in_shared[..., k, None], of_shared[:, None, :])
        return residual.detach().reshape(-1), found

    def _shared_columns(self, number: Tensor, calls: list[Call]) -> Tensor:
        """Return the Jacobian (B, P) of one number of every economy."""
        if not number.requires_grad:  # moments that are not learnt
            return number.new_zeros(len(number), sum(p.numel() for p in self.rule.parameters()))
        outputs, ones = [one.output for one in calls], torch.ones_like(number)
        slopes = torch.autograd.grad(number, outputs, ones, retain_graph=True, **_LOOSE)
        return self._columns(calls, number, list(slopes))

    def _columns(self, calls: list[Call], results: Tensor, slopes: list[Tensor]) -> Tensor:
        """Return columns of the Jacobian, in the order of the rule's parameters."""
        parts = []
        for network in (self.rule.network, self.rule.basis):
            if network is not None:
                mine = [i for i, one in enumerate(calls) if one.network is network]
                parts.append(jacobian(network, [calls[i] for i in mine], results, [slopes[i] for i in mine]))
        return torch.cat(parts, dim=1)

    def _shared(self, batch: Batch) -> tuple[Tensor, list[Call]]:
        """Return what economies have in common, (B, 1 + 2 k): capital of the period after, moments now and then."""
        if not batch.mass.shape[-1]:
            return batch.x.new_zeros(len(batch.x), 1), []
        now, first = self.rule.mean(batch.mass, batch.cells[..., 0])
        choice = self.rule(batch.cells, now[:, None, :])
        saving = self.rule.saved(batch.cells, choice.most, torch.minimum(choice.wanted, choice.most))
        then, second = self.rule.mean(batch.mass, saving)
        capital = (batch.mass * saving).sum(-1, keepdim=True)
        calls = [one for one in (first, choice.call, second) if one is not None]
        return torch.cat([capital, now, then], dim=-1), calls

    def _at(self, x: Tensor, shared: Tensor) -> tuple[Tensor, list[Call]]:
        """Return residuals at points x (B, n, d) of economies with these numbers in common (B, n or 1, 1 + 2 k)."""
        conditions, k = self.conditions, self.rule.moments
        capital, now, then = shared[..., :1], shared[..., 1 : 1 + k], shared[..., 1 + k :]
        choice = self.rule(x, now)
        available, wanted = choice.most, choice.wanted
        consumed = torch.minimum(wanted, available)
        saving = self.rule.saved(x, available, consumed)
        if not self.full_gradient:
            saving, capital, then = saving.detach(), capital.detach(), then.detach()
        after = conditions.following(x, saving, capital[..., 0])
        later = self.rule(after.x, then[..., None, :])
        consumption = torch.minimum(later.wanted, later.most)
        marginal = conditions.marginal_utility(consumption)
        expected = (after.probability * conditions.gross_return(after.x, consumption) * marginal).sum(-1)
        implied = conditions.inverse_marginal_utility(conditions.discount_factor * expected)
        cut = torch.where(implied >= available, consumed, wanted)
        if self.complementarity == "fischer-burmeister":
            slack, gain = available / cut - 1, implied / cut - 1
            residual = slack + gain - torch.sqrt(slack**2 + gain**2 + 1e-24)
        else:
            residual = torch.log(torch.minimum(implied, available) / cut)
        return residual, [choice.call, later.call]


def _parts(x: Tensor, shared: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a few economies at a time, so that what is computed of them stays in a core's cache."""
    each = max(1, AT_A_TIME // x.shape[1])
    return zip(torch.split(x, each), torch.split(shared, each), strict=True)


_LOOSE = {"allow_unused": True, "materialize_grads": True}
"""Arguments of autograd for calls that do not matter, such as the basis's where savings are at the limit."""
