"""check_problem passes what is right and catches what is wrong: every promise has a mutant that breaks it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from common.marks import slow_where
from common.problem_mutants import (
    TIGHT,
    Drifting,
    Forgetful,
    continuous_policy,
    firm,
    folded,
    forgets_the_step,
    in_place_drift,
    independent_noise,
    jet_part,
    lqr,
    merton,
    narrow,
    no_ito_term,
    of_another_discount,
    only_upward,
    scaled_value,
    shifted_policy,
    shifted_value,
    solved,
    stay_put,
    stopped,
    suboptimal,
    torch_branch,
    undiscounted_within_step,
    unreflected_reward,
)
from hacontrol_envs import LQR, ControlProblem, FirmInvestment, Merton
from hacontrol_envs.checks import check_problem
from hacontrol_envs.errors import ContractError

PROBLEM_MUTANTS = {
    "drift sign wrong in exact_step": (
        lqr(transition=lambda self, x, a, dt, z, y, r: (2 * x - y, r)),
        {},
        "mean of exact_step",
    ),
    "noise of exact_step too large": (
        lqr(transition=lambda self, x, a, dt, z, y, r: (y + 0.05 * z, r)),
        {},
        "covariance of exact",
    ),
    "covariance of exact_step without Van Loan": (lqr(transition=independent_noise), {}, "covariance of exact_step"),
    "no Ito term in exact_step": (merton(transition=no_ito_term), {}, "mean of exact_step"),
    "missing dt factor in exact_reward": (
        lqr(transition=lambda self, x, a, dt, z, y, r: (y, r / dt)),
        {},
        "exact_reward against",
    ),
    "no discounting in exact_reward": (merton(transition=undiscounted_within_step), {}, "exact_reward against"),
    "exact_step is not exact_transition": (
        lqr(exact_step=lambda self, t, x, a, dt, z: x + 1e-9),
        {},
        "exact_transition against exact_step",
    ),
    "exact_reward unknown to exact_transition": (
        lqr(exact_reward=lambda *_: None),
        {},
        "exact_transition and exact_reward",
    ),
    "missing 1/2 in value": (
        lqr(solution=solved(lambda s, f: replace(f, value=lambda t, x: 2 * f.value(t, x)))),
        {},
        "jet.v against value",
    ),
    "missing 1/2 in value and jet": (lqr(solution=solved(scaled_value(2.0))), {}, "HJB residual"),
    "value off by a millionth": (lqr(solution=solved(scaled_value(1 + 1e-6))), {}, "HJB residual"),
    "value without jet wrong": (
        lqr(solution=solved(lambda s, f: replace(scaled_value(1.5)(s, f), jet=None))),
        {},
        "Dynkin",
    ),
    "wrong reward": (lqr(reward=lambda self, t, x, a: 2 * LQR.reward(self, t, x, a)), {}, "exact_reward against"),
    "wrong reward without exact law": (
        lqr(
            reward=lambda self, t, x, a: 1.01 * LQR.reward(self, t, x, a),
            exact_transition=lambda *_: (None, None),
            exact_step=lambda *_: None,
            exact_reward=lambda *_: None,
            maximiser=lambda *_: None,
        ),
        {},
        "HJB residual",
    ),
    "wrong diffusion": (
        lqr(diffusion=lambda self, t, x, a: 1.1 * LQR.diffusion(self, t, x, a)),
        {},
        "covariance of exact_step",
    ),
    "policy shifted": (lqr(solution=solved(shifted_policy)), {}, "HJB residual"),
    "the value of another policy": (merton(solution=suboptimal), {}, "Hamiltonian of the policy"),
    "policy outside the action box": (lqr(action=property(narrow)), {}, "leaves the action box"),
    "wrong v_x": (lqr(solution=solved(jet_part(v_x=1.001))), {}, "jet.v_x along x"),
    "wrong v_xx": (merton(solution=solved(jet_part(v_xx=1.001), Merton)), {}, "jet.v_xx along wealth"),
    "wrong v_t": (lqr(solution=solved(jet_part(v_t=-1))), {"horizon": 1.0}, "jet.v_t against"),
    "wrong discount": (lqr(solution=solved(of_another_discount)), {}, "HJB residual"),
    "wrong terminal condition": (
        lqr(terminal_reward=lambda self, x: 2 * LQR.terminal_reward(self, x)),
        {"horizon": 1.0, "terminal_cost": 1.0},
        "value\\(T, x\\)",
    ),
    "wrong K in the sampled solution": (
        lqr(solution=solved(continuous_policy, sampled=True)),
        {},
        "Bellman equation of solution",
    ),
    "the sampled value of another policy": (
        merton(solution=lambda s, dt=None: suboptimal(s) if dt else Merton.solution(s)),
        {},
        "policy of solution\\(dt\\)",
    ),
    "sampled above continuous": (
        merton(solution=lambda s, dt=None: Merton.solution(s) if dt else suboptimal(s, jet=False)),
        {},
        "above solution\\(\\)",
    ),
    "wrong c in the sampled solution": (
        lqr(solution=solved(shifted_value, sampled=True)),
        {},
        "Bellman equation of solution",
    ),
    "wrong c in the sampled solution in ten dimensions": (
        lqr(solution=solved(partial(shifted_value, by=1e-4), sampled=True)),
        {"dimension": 10},
        "Bellman equation of solution",
    ),
    "batch-dependent drift": (
        lqr(drift=lambda self, t, x, a: LQR.drift(self, t, x, a) + 1e-15 * np.size(x)),
        {},
        "A row's result must not",
    ),
    "rows mixed by BLAS": (
        lqr(drift=lambda self, t, x, a: x @ self.A.T + a @ self.B.T),
        {"dimension": 10},
        "A row's result must not",
    ),
    "in-place modification": (lqr(drift=in_place_drift), {}, "changed its argument"),
    "parameters that JSON cannot hold": (
        lqr(parameters=property(lambda self: {"state_cost": np.ones((1, 1))})),
        {},
        "JSON serializable",
    ),
    "parameters that are not all": (Forgetful, {"noise_matrix": 0.1}, "has another"),
    "wrong controlled_diffusion": (merton(controlled_diffusion=False), {}, "controlled_diffusion is False"),
    "single precision": (lqr(reward=lambda self, t, x, a: np.float32(LQR.reward(self, t, x, a))), {}, "dtype float32"),
    "diffusion without its noise axis": (lqr(diffusion=lambda self, t, x, a: 0.3 + 0 * x), {}, "diffusion has shape"),
    "batch axes not taken": (lqr(drift=lambda self, t, x, a: np.stack([x[:, 0]], axis=1)), {}, "drift has shape"),
    "not finite": (merton(reward=lambda self, t, x, a: np.log(x[..., 0] - 1)), {}, "reward is not finite"),
    "global random numbers": (
        lqr(initial_state=lambda self, rng, size: np.random.default_rng().normal(size=(size, 1))),
        {},
        "not reproducible",
    ),
    "start outside the logarithm": (
        merton(initial_state=lambda self, rng, size: rng.normal(size=(size, 1))),
        {},
        "logarithmic scale",
    ),
    "start of the wrong shape": (
        lqr(initial_state=lambda self, rng, size: rng.normal(size=size)),
        {},
        "initial_state has shape",
    ),
    "NumPy only": (
        lqr(reward=lambda self, t, x, a: -np.square(np.asarray(x)[..., 0])),
        {},
        "reward of torch tensors is",
    ),
    "torch differs": (lqr(reward=torch_branch), {}, "reward on torch against NumPy"),
    "closed form with an error": (lqr(solution=solved(lambda s, f: replace(f, error=1.0))), {}, "solution.error"),
    "no source": (lqr(solution=solved(lambda s, f: replace(f, source=""))), {}, "solution.source is empty"),
    "value of the wrong shape": (
        lqr(solution=solved(lambda s, f: replace(f, value=lambda t, x: f.value(t, x)[..., None]))),
        {},
        "value has shape",
    ),
    "solution raises": (lqr(solution=lambda self, dt=None: 1 / 0), {}, "ZeroDivisionError"),
    "maximiser a little off": (
        lqr(maximiser=lambda self, t, x, p, q: 0.99 * LQR.maximiser(self, t, x, p, q)),
        {},
        "Hamiltonian of the maximiser",
    ),
    "maximiser of too low a consumption": (
        merton(maximiser=lambda self, t, x, p, q: Merton.maximiser(self, t, x, 1.1 * p, q)),
        {},
        "Hamiltonian of the maximiser",
    ),
    "maximiser outside the action box": (
        lqr(maximiser=lambda self, t, x, p, q: 9 * LQR.maximiser(self, t, x, p, q)),
        {},
        "maximiser leaves the action box",
    ),
    "maximiser of the wrong shape": (
        lqr(maximiser=lambda self, t, x, p, q: LQR.maximiser(self, t, x, p, q)[..., 0]),
        {},
        "maximiser has shape",
    ),
    "maximiser on NumPy only": (
        lqr(maximiser=lambda self, t, x, p, q: LQR.maximiser(self, t, np.asarray(x), np.asarray(p), np.asarray(q))),
        {},
        "maximiser of torch tensors",
    ),
    "maximiser that is not the argmax": (FirmInvestment, {"adjustment": "as-published"}, "Hamiltonian of the maximis"),
    "admissible changes actions inside": (
        lqr(admissible=lambda self, t, x, a, dt=0.0: a * (1 - 1e-9)),
        {},
        "admissible inside the box",
    ),
    "no state constraint": (firm(admissible=ControlProblem.admissible), {}, "drift out of a constrained edge"),
    "a constraint against leaving on one side only": (firm(admissible=only_upward), {}, "drift out of a constrained"),
    "admissible actions that are not the nearest": (firm(admissible=stay_put), {}, "that does not lead out"),
    "a held action that leaves": (firm(admissible=forgets_the_step), {}, "held over a step leads across"),
    "a step across a reflecting edge": (
        firm(transition=lambda self, x, a, dt, z, y, r: (y + 1e-9 * z * [0, 1], r)),
        {},
        "'exact' beyond a closed edge",
    ),
    "an exact law that folds drift": (firm(transition=folded), TIGHT, "of exact_step against"),
    "an exact law that does not know the edge": (firm(transition=stopped), TIGHT, "of exact_step against"),
    "a reward that does not know the edge": (firm(transition=unreflected_reward), TIGHT, "exact_reward against"),
    "no discount": (lqr(discount=0.0), {}, "infinite horizon needs discount"),
    "noise_dim is a float": (lqr(noise_dim=1.0), {}, "noise_dim must be a positive integer"),
    "state is not a Domain": (type("Stateless", (Drifting,), {"state": None}), {}, "state must be a Domain"),
}


def build(kind, parameters):
    """The mutant, class attributes outranking the instance's fields."""
    problem = kind(**parameters)
    for name in ("discount",):
        if name in vars(kind):
            object.__setattr__(problem, name, vars(kind)[name])
    return problem


def is_costly(name):
    """Whether a mutant is a firm, whose optimum is solved first, or has ten dimensions."""
    return issubclass(PROBLEM_MUTANTS[name][0], FirmInvestment) or "ten dimensions" in name


@pytest.mark.parametrize("name", slow_where(is_costly, PROBLEM_MUTANTS))
def test_check_problem_catches(name):
    kind, parameters, words = PROBLEM_MUTANTS[name]
    with pytest.raises(ContractError, match=words):
        check_problem(build(kind, parameters))


def test_check_problem_passes_a_problem_without_extras():
    check_problem(Drifting())
