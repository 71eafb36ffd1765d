"""Judge LQR: the Riccati equation, states that it must not involve, rival policies, finite horizons, held actions.

Unobservable states are found in exact fractions, the moments of a held action in long decimals; scalar problems are
compared with their closed forms, and matrices must meet the equations that only the optimum meets.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov

from hacontrol_benchmarks.measure.judges.draws import Uniform, log_uniform, require_close
from hacontrol_envs import LQR
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.solution import Solution

EPS = float(np.finfo(float).eps)
TOLERANCE = 1e-11
"""Relative tolerance of a matrix that a closed form, or an equation with stated sizes, determines."""
LONG = np.longdouble
PACES = (1e-11, 1e-3, 0.3, 8.0)
"""Steps of held actions, in units of the time in which the system moves."""
MOST_FLOW = 100.0
"""Longest horizon that is computed in decimals, in units of one over the norm of the Hamiltonian matrix."""


def draw(u: Uniform) -> dict[str, Any]:
    """Draw 1 to 3 states, rates from 1e-6 to 1e6, costs of any scale, states without cost or beyond control.

    Modes are mixed by integer shears of entries of few bits, so that floats hold the mixture exactly.
    """
    n = 1 if u() < 0.4 else 2 if u() < 0.6 else 3
    rate, spread = log_uniform(u, 1e-3, 1e3), 1e3 if u() < 0.3 else 3.0
    given: dict[str, Any] = {"discount": log_uniform(u, 1e-4, 1.0) * rate}
    modes = np.diag([_few_bits((1 if u() < 0.3 else -1) * rate * log_uniform(u, 1 / spread, spread)) for _ in range(n)])
    modes += np.triu([[_few_bits(rate * (u() - 0.5)) if u() < 0.5 else 0.0 for _ in range(n)] for _ in range(n)], 1)
    cost = np.diag([_few_bits(log_uniform(u, 1e-4, 1e4)) if u() < 0.75 else 0.0 for _ in range(n)])
    reach = np.diag([_few_bits(log_uniform(u, 1e-2, 1e2)) if u() < 0.85 else 0.0 for _ in range(n)])
    shear = np.eye(n) + (
        np.tril([[math.floor(3 * u()) - 1 for _ in range(n)] for _ in range(n)], -1) if u() < 0.5 else 0
    )
    back = np.rint(np.linalg.inv(shear))
    scale = _few_bits(log_uniform(u, 1e-6, 1e6))
    given |= {
        "state_matrix": (shear @ modes @ back).tolist(),
        "state_cost": (scale * (back.T @ cost @ back)).tolist(),
        "control_matrix": (shear @ reach).tolist(),
        "control_cost": scale * log_uniform(u, 1e-8, 1e8) if u() < 0.7 else scale,
        "noise_matrix": 0.0 if u() < 0.2 else log_uniform(u, 1e-3, 1e3),
    }
    if u() < 0.4:
        given |= {
            "horizon": log_uniform(u, 1e-4, 1e6) / rate,
            "terminal_cost": 0.0 if u() < 0.3 else scale * log_uniform(u, 1e-4, 1e4),
        }
    return given


def judge(parameters: dict[str, Any]) -> None:
    """Test the optimum in continuous time and with held actions."""
    p = LQR(**parameters)
    found = p.solution()
    if p.horizon is None:
        _judge_stationary(p, found, parameters)
    else:
        _judge_finite(p, found, parameters)
    _judge_held(p, parameters)


def matrix(p: LQR, found: Solution, t: float) -> tuple[Floats, float]:
    """Return P (n, n) and c of the value -x'Px/2 - c at time t.

    Args:
        p: the problem.
        found: its solution.
        t: time.
    """
    n = len(p.A)
    level = float(np.asarray(found.value(t, np.zeros(n))))
    assert found.jet is not None
    return -np.asarray(found.jet(t, np.zeros(n)).v_xx), -level


def _judge_stationary(p: LQR, found: Solution, parameters: dict[str, Any]) -> None:
    """The equation to rounding; zero where nothing is seen; the rest stable, which leaves no other solution.

    On the observable quotient a positive semidefinite solution is unique (Wonham, 1968).
    """
    (P, c), n = matrix(p, found, 0.0), len(p.A)
    S, shifted = p.B @ np.linalg.solve(p.R, p.B.T), p.A - p.discount / 2 * np.eye(n)
    allowed = TOLERANCE if found.error == 0 else 1e-6
    if n == 1:
        right = _scalar(LONG(p.A.item()) - LONG(p.discount) / 2, LONG(S.item()), LONG(p.Q.item()))
        require_close("P", P, right, 1e-13 * right, parameters)
    free = _unseen(p)
    size = np.sqrt(np.outer(np.diag(P), np.diag(P)))
    most = n * np.abs(P).max() * np.abs(free).max(initial=0.0)  # n entries, each known to 1e-12 of the largest
    require_close("P on what no cost sees", P @ free, 0.0, 1e-12 * most, parameters)
    exact = p.Q + _long(shifted.T, P) + _long(P, shifted) - _long(_long(P, S), P)
    sizes = np.abs(p.Q) + 2 * np.abs(shifted).T @ np.abs(P) + np.abs(P) @ np.abs(S) @ np.abs(P)
    sizes = np.sqrt(np.outer(np.diag(sizes), np.diag(sizes)))
    require_close("the Riccati equation", np.float64(exact), 0.0, allowed * sizes, parameters)
    _judge_rivals(p, P, size, parameters)
    spent = np.sum(p.D @ p.D.T * P) / 2 / p.discount
    require_close("c", c, spent, 1e-12 * spent, parameters)


def _judge_rivals(p: LQR, P: Floats, size: Floats, parameters: dict[str, Any]) -> None:
    """No linear feedback costs less: doing nothing, what is said to be best, and that with errors."""
    K, rng = np.linalg.solve(p.R, p.B.T @ P), np.random.default_rng(0)
    for k, gain in enumerate([K, 0 * K, *(K * (1 + 0.3 * rng.normal(size=K.shape)) for _ in range(3))]):
        exact = LONG(p.A) - LONG(p.discount) / 2 * np.eye(len(P)) - _long(p.B, gain)
        cost, closed = p.Q + _long(gain.T, _long(p.R, gain)), np.float64(exact)
        if np.linalg.eigvals(closed).real.max() < 0:
            spent = np.asarray(solve_continuous_lyapunov(closed.T, -np.float64(cost)), LONG)
            for _ in range(3):  # SciPy's is right to rounding of its largest entry only
                rest = cost + _long(exact.T, spent) + _long(spent, exact)
                spent += solve_continuous_lyapunov(closed.T, -np.float64(rest))
            gap = np.float64(np.diag(spent - P))
            slack = 1e-7 * np.diag(size) + 1e-12 * np.max(size)
            require_close(f"rival {k} less P", np.minimum(gap, 0), 0.0, slack, parameters)
        elif not np.any(cost):
            require_close("P where nothing costs", P, 0.0, 0.0, parameters)


def _scalar(a: Any, S: Any, Q: Any) -> Any:
    """The least solution of 0 = Q + 2 a P - S P^2."""
    if Q == 0:
        return 0 * Q
    root = (a * a + S * Q) ** (Decimal("0.5") if isinstance(a, Decimal) else LONG(0.5))
    return Q / (root - a) if a <= 0 else (a + root) / S


def _long(left: NDArray[Any], right: NDArray[Any]) -> Any:
    """The product in extended precision."""
    return np.asarray(left, LONG) @ np.asarray(right, LONG)


def _unseen(p: LQR) -> Floats:
    """A basis (n, k) of the states that Q, QA, QA^2, ... (and S over a finite horizon) send to zero, in fractions."""
    n, A = len(p.A), [[Fraction(float(e)) for e in row] for row in p.A]
    rows = [[Fraction(float(e)) for e in row] for W in (p.Q, *([p.S] if p.horizon else [])) for row in W]
    every = list(rows)
    for _ in range(n - 1):
        rows = [[sum((r[k] * A[k][j] for k in range(n)), Fraction(0)) for j in range(n)] for r in rows]
        every += rows
    pivots: list[tuple[int, list[Fraction]]] = []
    for row in every:
        for j, known in pivots:
            row = [e - row[j] * k for e, k in zip(row, known, strict=True)]
        lead = next((j for j, e in enumerate(row) if e), None)
        if lead is not None:
            row = [e / row[lead] for e in row]
            pivots = [(j, [e - k[lead] * r for e, r in zip(k, row, strict=True)]) for j, k in pivots]
            pivots.append((lead, row))
    held = dict(pivots)
    free = [j for j in range(n) if j not in held]
    basis = [[float(-held[i][j]) if i in held else float(i == j) for i in range(n)] for j in free]
    found: Floats = np.array(basis, dtype=np.float64).reshape(len(free), n).T
    return found


def _judge_finite(p: LQR, found: Solution, parameters: dict[str, Any]) -> None:
    """Ends, rival policies of held-constant gains, and the flow of the Hamiltonian matrix where it is not stiff."""
    T, n = p.horizon or 0.0, len(p.A)
    S, shifted = p.B @ np.linalg.solve(p.R, p.B.T), p.A - p.discount / 2 * np.eye(n)
    first, last = matrix(p, found, 0.0)[0], matrix(p, found, T)[0]
    require_close("P at T", last, p.S, 1e-13 * np.sqrt(np.outer(np.diag(p.S), np.diag(p.S))), parameters)
    free = _unseen(p)
    most = n * np.abs(first).max() * np.abs(free).max(initial=0.0)
    require_close("P on what no cost sees", first @ free, 0.0, 1e-12 * most, parameters)
    top = np.maximum(np.diag(first), np.diag(last))
    if n == 1:
        for tau in (T, T * 1e-3, T / 3):
            right = _scalar_flow(shifted.item(), S.item(), p.Q.item(), p.S.item(), tau)
            got = matrix(p, found, T - tau)[0].item()
            require_close(f"P at {tau} to go", got, right, 1e-11 * max(right, top.item()), parameters)
        return
    if np.abs(np.block([[-shifted, S], [p.Q, shifted.T]])).sum(axis=0).max() * T <= MOST_FLOW:
        P = _flow(p, T)
        worst = (np.abs(first) @ p.state.high) @ p.state.high / 2
        allowed = 1e-11 + found.error / worst if worst > 0 else 0.0
        require_close("P at 0", first, P, allowed * max(np.abs(P).max(), np.abs(last).max()), parameters)


def _flow(p: LQR, tau: float) -> Floats:
    """P with tau to go by e^{H tau} (I; S), H the Hamiltonian matrix, in decimals; tau |H| <= `MOST_FLOW`."""
    n = len(p.A)
    with localcontext(Context(prec=200, Emax=MAX_EMAX)):
        A, B, Q, end = (np.vectorize(Decimal, otypes=[object])(part) for part in (p.A, p.B, p.Q, p.S))
        shifted = A - np.diag([Decimal(p.discount) / 2] * n)
        H = np.block([[-shifted, B @ np.diag([1 / Decimal(cost) for cost in np.diag(p.R)]) @ B.T], [Q, shifted.T]])
        both = _times(_decimal_exponential(H, tau), [*_decimal_eye(n), *end.tolist()])
        # P below = above for P' above' = below': Gaussian elimination of [above' | below'].
        rows = [[both[i][j] for i in range(n)] + [both[n + i][j] for i in range(n)] for j in range(n)]
        for i in range(n):
            best = max(range(i, n), key=lambda k: abs(rows[k][i]))
            rows[i], rows[best] = rows[best], rows[i]
            rows[i] = [e / rows[i][i] for e in rows[i]]
            for k in range(n):
                if k != i:
                    rows[k] = [e - rows[k][i] * own for e, own in zip(rows[k], rows[i], strict=True)]
        P: Floats = np.array([[float(e) for e in row[n:]] for row in rows])
    return P


def _scalar_flow(a: float, S: float, Q: float, end: float, tau: float) -> float:
    """P(tau) of dP = Q + 2 a P - S P^2 from P(0) = end, in decimals."""
    with localcontext() as context:
        context.prec, context.Emax = 60, MAX_EMAX
        a_, S_, Q_, P_, t = (Decimal(float(part)) for part in (a, S, Q, end, tau))
        root = (a_ * a_ + S_ * Q_).sqrt()
        if root == 0:
            return float(P_ / (1 + S_ * P_ * t))
        fade = (-2 * root * t).exp() if root * t < 5000 else Decimal(0)
        up, down = 1 + fade, 1 - fade  # cosh and sinh over e^{root t} / 2
        denominator = root * up - a_ * down + S_ * P_ * down
        if denominator < root * Decimal("1e-40"):  # all is lost in a - root: the limit of an unreached state
            return float(P_ * (2 * a_ * t).exp() + Q_ * ((2 * a_ * t).exp() - 1) / (2 * a_))
        return float((P_ * (root * up + a_ * down) + Q_ * down) / denominator)


def _judge_held(p: LQR, parameters: dict[str, Any]) -> None:
    """The moments of an action held over a step, and over an infinite horizon the Bellman equation made of them."""
    n, m = p.B.shape
    rate = float(np.abs(p.A).sum(axis=0).max()) + p.discount
    dt = PACES[len(repr(parameters)) % len(PACES)] / rate
    if p.horizon is None and n > 2:
        _sampled_matrix(p, dt, parameters)
    if n > 2:
        return  # two states tell what three would, and decimals take their time
    eye, zero, one, none = np.eye(n), np.zeros((n, n)), np.eye(m), np.zeros((m, n))
    unit = float(np.abs(p.B).max()) / rate or 1.0  # of actions, in which decimals need not be many
    units = np.diag([1.0] * n + [unit] * m)
    J = np.block([[p.A, p.B / unit], [np.zeros((m, n + m))]])
    W = np.block([[p.Q, np.zeros_like(p.B)], [np.zeros_like(p.B.T), p.R / unit**2]])
    joint, M = _exponential(J, dt)[:n] @ units, units @ _integral(J - p.discount / 2 * np.eye(n + m), W, dt) @ units
    moved = p.exact_step(0.0, np.vstack([eye, none]), np.vstack([0 * p.B, one]), dt, np.zeros((n + m, n))).T
    require_close("F and G", moved, joint, 1e-11 * np.abs(joint).max(axis=0), parameters)
    root, C = p.exact_step(0.0, zero, np.zeros(m), dt, eye).T, _integral(p.A.T, p.D @ p.D.T, dt)
    require_close("covariance", root @ root.T, C, 1e-11 * np.abs(C).max(), parameters)
    paid = -2 * p.exact_reward(0.0, np.vstack([eye, none]), np.vstack([0 * p.B, one]), dt)
    base = -2 * float(p.exact_reward(0.0, np.zeros(n), np.zeros(m), dt))
    parts = np.diag(abs(joint).T @ abs(p.Q) @ abs(joint)) * dt  # which cancel where actions move what Q does not see
    allowed = 1e-11 * (np.diag(M) + base) + 1e-14 * parts
    require_close("cost of a step", paid, np.diag(M) + base, allowed, parameters)
    if p.horizon is None:
        _judge_bellman(p, dt, joint, M, parameters)


def _sampled_matrix(p: LQR, dt: float, parameters: dict[str, Any]) -> tuple[Floats, Floats, float]:
    """P and K of actions held over dt, out of values where P weighs more than c; holding may not pay."""
    found, n = p.solution(dt), len(p.A)
    continuous = matrix(p, p.solution(), 0.0)[0]
    level = float(np.asarray(found.value(0.0, np.zeros(n))))
    weights = np.diag(continuous)
    x = np.diag(np.sqrt(1 - 1e3 * level / np.where(weights > 0, weights, np.inf)))
    both = np.array([[level - float(np.asarray(found.value(0.0, v + w))) for w in x] for v in x])
    own = np.diag(both) / 4
    P = (both - own[:, None] - own) / np.outer(np.diag(x), np.diag(x))
    loose = 1e-9 if found.kind == "closed form" else 1e-5
    gap = np.minimum(np.diag(P - continuous), 0.0)
    stated = 2 * p.solution().error / p.state.high**2
    require_close("what holding costs", gap, 0.0, loose * np.diag(P) + stated, parameters)
    K = -np.column_stack([np.asarray(found.policy(0.0, e)) for e in np.eye(n)])
    return P, K, loose


def _judge_bellman(p: LQR, dt: float, joint: Floats, M: Floats, parameters: dict[str, Any]) -> None:
    """P is what its own feedback costs, and no feedback near it costs less by more than rounding.

    Of short steps what is left of P after one is P but for rounding; there P must be the continuous one.
    """
    (P, K, loose), gamma = _sampled_matrix(p, dt, parameters), math.exp(-p.discount * dt)
    stacked = np.vstack([np.eye(len(P)), -K])
    later = joint @ stacked
    again = stacked.T @ M @ stacked + gamma * later.T @ P @ later
    sizes = abs(stacked).T @ abs(M) @ abs(stacked) + gamma * abs(later).T @ abs(P) @ abs(later)
    allowed = loose * np.sqrt(np.outer(np.diag(sizes), np.diag(sizes)))
    allowed += 1e-14 * max(np.abs(sizes).max(), np.abs(P).max())  # P is a difference of values, rounded as its largest
    require_close("Bellman", again, P, allowed, parameters)
    H = M + gamma * joint.T @ P @ joint
    n, most = len(P), abs(M) + gamma * abs(joint).T @ abs(P) @ abs(joint)
    slope, size = H[n:, :n] - H[n:, n:] @ K, np.sqrt(np.outer(np.diag(most)[n:], np.diag(most)[:n]))
    require_close("slope in the action", slope, 0.0, loose * size + 1e-14 * np.abs(most).max(), parameters)
    if dt * np.abs(p.A).max() < 1e-9:
        continuous = matrix(p, p.solution(), 0.0)[0]
        size = np.sqrt(np.outer(np.diag(P), np.diag(P)))
        gain = np.abs(np.linalg.solve(p.R, p.B.T @ P)).max() * np.abs(p.B).max() * dt
        require_close("P at a short step", P, continuous, (1e-9 + 10 * gain) * size, parameters)


def _exponential(A: Floats, t: float) -> Floats:
    """e^{At} in decimals, as many as its size takes."""
    return np.array([[float(e) for e in row] for row in _decimal_exponential(A, t)])


def _integral(F: Floats, W: Floats, t: float) -> Floats:
    """int_0^t e^{F's} W e^{Fs} ds by the block exponential of Van Loan (1978), in decimals."""
    n, size, rate = len(F), float(np.abs(W).max()) or 1.0, float(np.abs(F).max())
    block = _decimal_exponential(np.block([[-F.T, W * (rate / size)], [np.zeros((n, n)), F]]), t)
    with localcontext() as context:
        context.prec = _digits(F, t)
        lower = [row[n:] for row in block[n:]]
        upper = [row[n:] for row in block[:n]]
        return np.array(
            [
                [float(sum(lower[k][i] * upper[k][j] for k in range(n))) * (size / rate) for j in range(n)]
                for i in range(n)
            ]
        )


def _digits(A: NDArray[Any], t: float) -> int:
    return 50 + int(2 * float(np.abs(A).sum(axis=0).max()) * t)


def _decimal_exponential(A: NDArray[Any], t: float) -> list[list[Decimal]]:
    n, size = len(A), float(np.abs(A).sum(axis=0).max()) * t
    halvings = max(0, math.ceil(math.log2(size)) + 4) if size > 0 else 0
    with localcontext() as context:
        context.prec = _digits(A, t)
        step = Decimal(t) / 2**halvings
        X = [[Decimal(e) * step for e in row] for row in A.tolist()]
        term = total = _decimal_eye(n)
        for k in range(1, 200):
            term = [[e / k for e in row] for row in _times(term, X)]
            total = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(total, term, strict=True)]
            if max(abs(e) for row in term for e in row) < Decimal(10) ** (-context.prec):
                break
        for _ in range(halvings):
            total = _times(total, total)
    return total


def _decimal_eye(n: int) -> list[list[Decimal]]:
    return [[Decimal(int(i == j)) for j in range(n)] for i in range(n)]


def _times(left: list[list[Decimal]], right: list[list[Decimal]]) -> list[list[Decimal]]:
    columns = list(zip(*right, strict=True))
    return [
        [sum((a * b for a, b in zip(row, column, strict=True) if a and b), Decimal(0)) for column in columns]
        for row in left
    ]


def _few_bits(x: float) -> float:
    """x rounded to 11 bits."""
    mantissa, exponent = math.frexp(x)
    return math.ldexp(round(mantissa * 2**11), exponent - 11)
