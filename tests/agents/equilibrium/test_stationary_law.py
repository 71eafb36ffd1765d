"""The law's network against laws known in closed form, and its equations against differences of the density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.integrate import simpson  # noqa: E402
from scipy.linalg import solve_continuous_lyapunov  # noqa: E402
from scipy.stats import multivariate_normal, truncnorm  # noqa: E402
from torch.nn.utils import parameters_to_vector, vector_to_parameters  # noqa: E402

from hacontrol_agents.equilibrium.stationary_law import Frame, StationaryLaw  # noqa: E402
from hacontrol_envs import ControlProblem, Domain  # noqa: E402
from hacontrol_envs.arrays import like, matvec, namespace  # noqa: E402
from hacontrol_envs.errors import ParameterError  # noqa: E402
from hacontrol_envs.solvers.grid import Grid, clustered_nodes  # noqa: E402

PULL = np.array([[-0.7, 0.4], [0.0, -0.5]])
"""Drift of the two states on their scales, in their distance from REST; a firm's capital and productivity are such."""
REST = np.array([0.9, 0.1])
ONE, BOTH = np.array([[0.0], [0.2]]), np.array([[0.15, 0.1], [-0.1, 0.2]])
"""Noise of the second state alone, and correlated noise of both."""
FAR = 100.0
"""A bound that the second state does not feel."""


@dataclass(frozen=True, eq=False)
class Linear(ControlProblem):
    """c = (log x_1, x_2) with dc = pull (c - REST) dt + noise dW; |c - REST| is at most reach and bound, which may
    reflect."""

    pull: np.ndarray
    noise: np.ndarray
    reach: float = 4.0
    bound: float = FAR
    edges: object = ("open", "reflecting")

    horizon, discount = None, 0.1
    action = Domain(["nothing"], [-1.0], [1.0])

    @property
    def noise_dim(self):
        return self.noise.shape[1]

    @property
    def state(self):
        ends = [[math.exp(REST[0] + sign * self.reach), REST[1] + sign * self.bound] for sign in (-1, 1)]
        return Domain(["x", "z"], *ends, ("log", "linear"), self.edges)

    def drift(self, t, x, a):
        c = namespace(x).stack([namespace(x).log(x[..., 0]), x[..., 1]], axis=-1)
        b = matvec(self.pull, c - like(REST, x))
        half = float((self.noise[0] ** 2).sum()) / 2
        return namespace(x).stack([x[..., 0] * (b[..., 0] + half), b[..., 1]], axis=-1)

    def diffusion(self, t, x, a):
        sizes = namespace(x).stack([x[..., 0], namespace(x).ones_like(x[..., 0])], axis=-1)
        return sizes[..., None] * like(self.noise, x)

    def reward(self, t, x, a):
        return 0 * x[..., 0]

    def initial_state(self, rng, size):
        return np.tile([math.exp(REST[0]), REST[1]], (size, 1))


@dataclass(frozen=True, eq=False)
class Curved(Linear):
    """Drift and noise that depend on state and action in no simple way."""

    def drift(self, t, x, a):
        k, z = x[..., 0], x[..., 1]
        return namespace(x).stack([k * (a[..., 0] - 0.3 * k), -0.5 * z + 0.3 * k * a[..., 0]], axis=-1)

    def diffusion(self, t, x, a):
        xp, k, z = namespace(x), x[..., 0], x[..., 1]
        first = xp.stack([0.3 * k + 0.1 * a[..., 0], 0.2 + 0.05 * z * z], axis=-1)
        second = xp.stack([0.2 * k * xp.sin(z), 0.3 + 0.1 * xp.cos(k)], axis=-1)
        return xp.stack([first, second], axis=-1)


def act(t, x):
    """A policy of no interest, for arrays of any kind."""
    xp = namespace(x)
    return (xp.sin(x[..., 1]) - 0.5 * xp.log(x[..., 0]))[..., None]


def covariance(problem):
    """That of c, where no edge is felt: M S + S M' + noise noise' = 0."""
    return solve_continuous_lyapunov(problem.pull, -problem.noise @ problem.noise.T)


def frame(problem, spread_1=1.0, spread_2=1.0, slope=1.0, mean_2=0.0):
    """The frame of the Gaussian law, the reflected state z first: spreads and slope multiplied, a mean moved.

    Where both states are reflected they keep their order, and there is no slope.
    """
    (var_y, between), (_, var_z) = covariance(problem)
    if problem.edges == "reflecting":
        return Frame((REST[0], REST[1] + mean_2 * math.sqrt(var_z)), tuple(1.2 * np.sqrt([var_y, var_z])), 0.0)
    own = math.sqrt(var_y - between**2 / var_z)
    mean = REST[1], REST[0] + mean_2 * own
    return Frame(mean, (spread_1 * math.sqrt(var_z), spread_2 * own), slope * between / var_z)


def law(problem, hidden=(24,), seed=0, **wrong):
    """A law in that frame."""
    found = StationaryLaw(problem.state, hidden, seed, "cpu")
    found.frame = frame(problem, **wrong)
    return found


def equations(found, problem, size=500):
    """The equations of the law at some points."""
    return found.equations(problem, act, found.points(np.random.default_rng(0), size))


def fitted(found, problem, steps, size=1200):
    """Fit the law; what is left."""
    left = found.fit(equations(found, problem, size), steps)
    found.quadrature()
    return left


def scrambled(found, size=0.5):
    """The law with a network of random parameters."""
    rng, parameters = np.random.default_rng(7), found.network.parameters()
    vector_to_parameters(
        torch.as_tensor(size * rng.standard_normal(len(parameters_to_vector(parameters)))), found.network.parameters()
    )
    found.quadrature()
    return found


def density(found, x):
    """The law's, as an array."""
    return found.density(torch.as_tensor(x)).numpy()


def lattice(problem, bound=8.0, n=401):
    """x (n, n, 2) between this many deviations, x_2 between its edges, and the trapezoidal weights of c."""
    ends = np.minimum(bound * np.sqrt(np.diag(covariance(problem))), (problem.reach, problem.bound))
    y, z = (np.linspace(-end, end, n) for end in ends)
    weights = np.outer(*(np.gradient(part) * np.where(abs(part) == abs(part).max(), 0.5, 1.0) for part in (y, z)))
    return np.stack(np.meshgrid(np.exp(REST[0] + y), REST[1] + z, indexing="ij"), axis=-1), weights


@pytest.mark.parametrize("noise", [ONE, BOTH])
def test_a_gaussian_law_has_no_residual(noise):
    problem = Linear(PULL, noise)
    right = law(problem)
    vector_to_parameters(torch.zeros_like(parameters_to_vector(right.network.parameters())), right.network.parameters())
    assert len(equations(right, problem).points) == 500
    assert right.residual(equations(right, problem)).abs().max() < 1e-12
    for wrong in ({"spread_1": 1.1}, {"spread_2": 1.1}, {"slope": 0.9}, {"mean_2": 0.1}):
        right.frame = frame(problem, **wrong)
        assert right.residual(equations(right, problem)).abs().max() > 1e-4


def test_points_stay_between_reflecting_edges_and_some_equations_hold_on_them():
    problem = Linear(PULL, ONE, bound=0.3)
    found = law(problem)
    x = found.states(equations(found, problem, 800).points)[:, 1].numpy() - REST[1]
    np.testing.assert_allclose(np.sort(x[800:]), np.repeat([-0.3, 0.3], 100))
    assert np.abs(x).max() <= 0.3 * (1 + 1e-12)


def test_a_frame_is_laid_around_states():
    rng, problem = np.random.default_rng(0), Linear(PULL, BOTH)
    c = rng.multivariate_normal(REST, covariance(problem), 500)
    found, x = law(problem), torch.as_tensor(np.stack([np.exp(c[:, 0]), c[:, 1]], axis=1))
    found.place(x)
    w = found.coordinates(x).numpy()
    np.testing.assert_allclose(w.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(w.T @ w / 500, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(w[:, 0], (c[:, 1] - c[:, 1].mean()) / c[:, 1].std(), rtol=1e-9)
    np.testing.assert_allclose(found.coordinates(found.states(torch.as_tensor(w))), w, rtol=1e-9, atol=1e-12)


def test_equations_by_finite_differences_of_the_density():
    """d_t f = -d_i(b_i f) + 1/2 d_ij(D_ij f) in the problem's own states, and at an edge the current into it less
    1/2 d_1(D_12 f)."""
    problem = Curved(PULL, BOTH, bound=0.3)
    found = scrambled(law(problem, slope=0.7, spread_1=1.2))
    drawn = torch.as_tensor(np.random.default_rng(1).uniform(-1.0, 1.0, (80, 2)))
    made = found.equations(problem, act, drawn)
    x, rows = found.states(made.points).numpy(), (found.residual(made) / made.weight).numpy()
    h = np.array([1e-4, 1e-4])

    def flow(x):
        """b f (..., 2) and D f (..., 2, 2); the density goes on beyond the edge."""
        sigma = problem.diffusion(0.0, x, act(0.0, x))
        w = found.coordinates(torch.as_tensor(x))
        f = np.exp(found._log(w).numpy())[:, None] / x[:, :1]
        return problem.drift(0.0, x, act(0.0, x)) * f, sigma @ sigma.mT * f[..., None]

    def at(i, j=0, one=0, two=0):
        step = np.zeros(2)
        step[i] += one * h[i]
        step[j] += two * h[j]
        return flow(x + step)

    f = np.exp(found._log(made.points).numpy()) / x[:, 0]
    change = sum((at(i, one=-1)[0] - at(i, one=1)[0])[:, i] / (2 * h[i]) for i in (0, 1))
    for i in (0, 1):
        for j in (0, 1):
            corners = sum(s * r * at(i, j, s, r)[1][:, i, j] for s in (-1, 1) for r in (-1, 1))
            change = change + corners / (8 * h[i] * h[j])
    slopes = [(at(i, one=1)[1] - at(i, one=-1)[1]) / (2 * h[i]) for i in (0, 1)]
    into = at(0)[0][:, 1] - (slopes[0][:, 0, 1] + slopes[1][:, 1, 1]) / 2 - slopes[0][:, 0, 1] / 2
    np.testing.assert_allclose(rows[:80], (change / f)[:80], rtol=1e-5, atol=1e-5)
    assert len(rows) == 100
    np.testing.assert_allclose(rows[80:] * found.frame.spread[0], (into / f)[80:], rtol=1e-6, atol=1e-7)


def test_the_jacobian_by_finite_differences():
    problem = Curved(PULL, BOTH, bound=0.3)
    found = scrambled(law(problem, hidden=(5, 4)))
    made = equations(found, problem, 40)
    rows, jacobian = found.linearised(made)
    at, h = parameters_to_vector(found.network.parameters()).detach().clone(), 1e-5
    assert jacobian.shape == (len(rows), len(at)) == (50, 44)
    torch.testing.assert_close(rows, found.residual(made), rtol=0, atol=0)

    def moved(step):
        vector_to_parameters(at + step, found.network.parameters())
        return found.residual(made)

    for i in range(len(at)):
        step = torch.zeros_like(at)
        step[i] = h
        torch.testing.assert_close(jacobian[:, i], (moved(step) - moved(-step)) / (2 * h), rtol=1e-6, atol=1e-8)


def distance(found, problem, true):
    """Half the L1 distance of the law from the density true(c), which integrates to one."""
    x, weights = lattice(problem)
    c = np.stack([np.log(x[..., 0]), x[..., 1]], axis=-1)
    assert (true(c) * weights).sum() == pytest.approx(1.0, abs=1e-4)
    return (np.abs(density(found, x) * x[..., 0] - true(c)) * weights).sum() / 2


@pytest.mark.slow
@pytest.mark.parametrize("noise", [ONE, BOTH])
def test_a_gaussian_law_is_recovered_from_a_wrong_frame(noise):
    problem = Linear(PULL, noise)
    found = law(problem, spread_1=0.9, spread_2=1.15, slope=0.9, mean_2=0.3)
    fitted(found, problem, 75)
    assert distance(found, problem, multivariate_normal(REST, covariance(problem)).pdf) < 1e-6
    nodes, mass = (part.numpy() for part in found.quadrature())
    away = np.stack([np.log(nodes[:, 0]), nodes[:, 1]], axis=1) - REST
    assert float(mass.sum()) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(mass @ away, 0, atol=1e-6)
    np.testing.assert_allclose(mass * away.T @ away, covariance(problem), atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("edges", [("open", "reflecting"), "reflecting"])
def test_reflection_cuts_off_the_tails_of_a_reversible_law(edges):
    """With b = 1/2 D grad log f no current flows, so edges change nothing but the range: a truncated Gaussian."""
    D, S = np.diag([0.03, 0.05]), np.array([[0.06, 0.03], [0.03, 0.05]])
    bounds = np.array([1.2 if edges == "reflecting" else 12.0, 1.5]) * np.sqrt(np.diag(S))
    problem = Linear(-D @ np.linalg.inv(S) / 2, np.sqrt(D), *bounds, edges)
    gaussian = multivariate_normal(REST, S, abseps=1e-10, releps=1e-10)
    inside = gaussian.cdf(REST + bounds, lower_limit=REST - bounds)

    def true(c):
        return gaussian.pdf(c) / inside

    found = law(problem, spread_1=0.9, spread_2=1.15, slope=0.8, mean_2=0.3)
    assert distance(found, problem, true) > 0.05
    fitted(found, problem, 75)
    assert distance(found, problem, true) < 1e-5
    x = np.exp(REST[0]), REST[1] + 1.01 * bounds[1]
    assert density(found, np.array([x, (x[0], REST[1])]))[0] == 0


@pytest.mark.slow
def test_correlated_noise_at_a_reflecting_edge_against_finite_differences():
    problem = Linear(PULL, BOTH, bound=0.3)
    grid = Grid(problem, (clustered_nodes(161, 0.0, 0.2), np.linspace(-1, 1, 81)), 4)
    masses, _ = grid.law(np.zeros((len(grid.x), 1)))
    found = law(problem, (20,))
    fitted(found, problem, 75)
    assert np.abs(density(found, grid.x) * grid.x[:, 0] * grid.cells - masses).sum() / 2 < 5e-4


@pytest.mark.slow
def test_noise_of_one_state_at_reflecting_edges():
    """That state moves on its own, so its law is a truncated Gaussian, whatever the other does.

    The other is slow here. Driven by a bounded state it stays within 0.4 bound/0.05 of its rest; where that is near,
    the density falls to zero there and a network for its logarithm does not get far.
    """
    deviation = 0.2
    problem = Linear(np.array([[-0.05, 0.4], [0.0, -0.5]]), ONE, bound=1.5 * deviation)
    found = law(problem, (20, 20))
    fitted(found, problem, 75, 900)
    y, z = np.linspace(REST[0] - 3, REST[0] + 3, 801), np.linspace(-0.3, 0.3, 61) * (1 - 1e-9)
    x = np.stack(np.meshgrid(np.exp(y), REST[1] + z, indexing="ij"), axis=-1)
    marginal = simpson(density(found, x) * x[..., 0], dx=y[1] - y[0], axis=0)
    np.testing.assert_allclose(marginal, truncnorm(-1.5, 1.5, scale=deviation).pdf(z), rtol=5e-4)


@pytest.mark.parametrize("bound", [FAR, 0.3])
def test_the_mass_by_another_rule(bound):
    problem = Linear(PULL, ONE, bound=bound)
    found = scrambled(law(problem, slope=0.7), 0.3)
    x, _ = lattice(problem, 10.0)
    y, z = np.log(x[:, 0, 0]), x[0, :, 1]
    assert simpson(simpson(density(found, x) * x[..., 0], x=z), x=y) == pytest.approx(1.0, abs=1e-9)


def test_two_states_are_asked_for():
    with pytest.raises(ParameterError, match="two states"):
        StationaryLaw(Domain(["x"], [0.0], [1.0]), (5,), 0, "cpu")
