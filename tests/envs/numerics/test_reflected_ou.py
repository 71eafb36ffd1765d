"""The reflected Ornstein-Uhlenbeck step against a fine Markov chain, closed forms, and what semigroups satisfy."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline
from scipy.linalg import expm
from scipy.special import ndtr

from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.reflected_ou import ReflectedOU

# kappa, sigma, bound, dt: both edges near; the upper one near; the same for a long step; edges closer than the noise;
# drift that takes the process from the edge before the step is over.
PROCESSES = [
    (0.5, 0.2, 0.3, 0.25),
    (0.5, 0.2, 2.5, 0.25),
    (0.5, 0.2, 1.5, 3.0),
    (0.5, 1.0, 0.3, 0.25),
    (0.5, 0.12, 2.5, 2.0),
]


class Chain:
    """Reversible finite-volume chain of the process on cells that are finest at the upper edge.

    Rates sigma^2/2 m(face) / (distance of centres) / (m(centre) width), with m the stationary density; second order.
    """

    def __init__(self, kappa: float, sigma: float, bound: float, dt: float, cells: int) -> None:
        deviation = sigma * np.sqrt(-np.expm1(-2 * kappa * dt) / (2 * kappa))
        length = min(2 * bound, 0.3 - bound * np.expm1(-kappa * dt) + 6 * deviation)
        place = np.linspace(1, 0, cells + 1)
        self.faces = bound - length * (0.3 * place + 0.7 * place**2)
        self.starts = (self.faces[1:] + self.faces[:-1]) / 2

        def density(z, at):
            return np.exp(-kappa * (z**2 - at**2) / sigma**2)

        inner, width, gap = self.faces[1:-1], np.diff(self.faces), np.diff(self.starts)
        up = sigma**2 / 2 * density(inner, self.starts[:-1]) / gap / width[:-1]
        down = sigma**2 / 2 * density(inner, self.starts[1:]) / gap / width[1:]
        self.rates = np.diag(up, 1) + np.diag(down, -1)
        self.rates -= np.diag(self.rates.sum(axis=1))
        self.dt = dt

    @cached_property
    def cdf(self):
        """P(z_dt <= face | start in a cell), (cells, cells + 1)."""
        chances = expm(self.dt * self.rates)
        return np.hstack([np.zeros((len(chances), 1)), np.cumsum(chances, axis=1)])

    def discounted(self, f, rate):
        """int_0^dt e^{rate s} E f(z_s) ds by the first block row of an exponential (Van Loan, 1978)."""
        n = len(self.rates)
        block = np.zeros((n + 1, n + 1))
        block[:n, :n], block[:n, n] = self.rates + rate * np.eye(n), f(self.starts)
        return expm(self.dt * block)[:n, n]


@cache
def chains(process):
    return [Chain(*process, cells) for cells in (150, 300, 600)]


def limit(process, evaluate):
    """What chains of 150, 300 and 600 cells tend to; their errors are in even powers of the width (Richardson)."""
    one, two, four = map(evaluate, chains(process))
    return (64 * four - 20 * two + one) / 45


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES[:-1])
def test_the_law_near_an_edge_is_that_of_a_fine_chain(process):
    ou, bound, xi = ReflectedOU(*process), process[2], np.linspace(-4, 4, 41)
    for z in bound - min(bound, 0.3) * np.array([0.01, 0.1, 0.2, 0.5, 0.9]):
        y = ou.step(np.full(41, z), xi)

        def chance(chain, z=z, y=y):
            from_z = make_interp_spline(chain.starts, chain.cdf, k=5)(z)
            return make_interp_spline(chain.faces, from_z, k=5)(y)

        np.testing.assert_allclose(limit(process, chance), ndtr(xi), rtol=0, atol=1e-7)
        np.testing.assert_allclose(ou.step(np.full(41, -z), -xi), -y, rtol=0, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES[:-1])
@pytest.mark.parametrize("rate", [-0.7, 0.3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_expected_exponentials_near_an_edge_are_those_of_a_fine_chain(process, rate, sign):
    """At the lower edge z is minus what it is at the upper one, and e^z is e^{-z} there."""
    z = process[2] - min(process[2], 0.3) * np.linspace(0.01, 0.9, 50)

    def collected(chain):
        return make_interp_spline(chain.starts, chain.discounted(lambda z: np.exp(sign * z), rate), k=5)(z)

    given = ReflectedOU(*process).discounted_exponential(sign * z, np.full(50, rate))
    np.testing.assert_allclose(given, limit(process, collected), rtol=1e-7)


def images(z, y, s, bound):
    """P(z + s W <= y) for Brownian motion between -bound and bound, by the method of images."""
    shifts = 4 * bound * np.arange(-8, 9)[:, None]
    wraps = ndtr((y - z + shifts) / s) - ndtr((-bound - z + shifts) / s)
    turns = ndtr((y + z - 2 * bound + shifts) / s) - ndtr((-bound + z - 2 * bound + shifts) / s)
    return (wraps + turns).sum(axis=0)


@pytest.mark.parametrize(("sigma", "bound"), [(0.2, 0.3), (0.2, 2.5), (0.6, 0.3)])
def test_without_drift_the_law_is_that_of_the_method_of_images(sigma, bound):
    ou, rng = ReflectedOU(1e-10, sigma, bound, 0.25), np.random.default_rng(0)
    z = rng.choice([-1, 1], 4000) * (bound - rng.uniform(0, min(bound, 10 * sigma / 2), 4000) * rng.uniform(0, 1, 4000))
    xi = rng.uniform(-5, 5, 4000)
    y = ou.step(z, xi)
    np.testing.assert_allclose(images(z, y, sigma / 2, bound), ndtr(xi), rtol=0, atol=2e-9)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(300)
XI = 7.5 * NODES
BELL = 7.5 * WEIGHTS * np.exp(-(XI**2) / 2) / np.sqrt(2 * np.pi)
FUNCTIONS = [np.cos, np.exp, lambda z: z**3, lambda z: np.exp(-20 * z**2)]


def expect(ou, f, z):
    """E f(z_dt) from every z, by a Gauss-Legendre rule in xi."""
    every, shocks = np.broadcast_arrays(z[:, None], XI)
    return f(ou.step(every.ravel(), shocks.ravel())).reshape(every.shape) @ BELL


@pytest.mark.parametrize("process", [*PROCESSES, (0.5, 0.2, 0.3, 0.01), (2.0, 0.3, 0.5, 4.0)])
def test_the_truncated_gaussian_is_stationary(process):
    kappa, sigma, bound, _ = process
    z, weight = bound * NODES, WEIGHTS * np.exp(-kappa * (bound * NODES) ** 2 / sigma**2)
    ou = ReflectedOU(*process)
    for f in FUNCTIONS:
        assert weight @ expect(ou, f, z) == pytest.approx(weight @ f(z), rel=1e-7, abs=1e-9 * weight.sum())


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES)
def test_two_half_steps_are_one_step(process):
    """Chapman and Kolmogorov."""
    kappa, sigma, bound, dt = process
    whole, half = ReflectedOU(*process), ReflectedOU(kappa, sigma, bound, dt / 2)
    z = bound - min(bound, sigma * np.sqrt(dt) * 4) * np.linspace(0, 1, 6) ** 2
    for f in FUNCTIONS:
        twice = expect(half, lambda y, f=f: expect(half, f, y), z)
        np.testing.assert_allclose(twice, expect(whole, f, z), rtol=0, atol=1e-8)
    rate = -0.4

    def collected(ou, y):
        return ou.discounted_exponential(y, np.full(y.shape, rate))

    for sign in (1.0, -1.0):
        later = expect(half, lambda y: collected(half, y), sign * z)
        twice = collected(half, sign * z) + np.exp(rate * dt / 2) * later
        np.testing.assert_allclose(twice, collected(whole, sign * z), rtol=1e-7)


def test_away_from_edges_it_is_gaussian_and_meets_the_law_near_them():
    kappa, sigma, bound, dt = 0.5, 0.2, 2.5, 0.25
    ou, s = ReflectedOU(kappa, sigma, bound, dt), np.sqrt(0.2**2 * -np.expm1(-0.25))
    xi = np.linspace(-5, 5, 101)
    exact, tabulated = 1e-15, 3e-5 * s
    for distance, allowed in ((2.5, exact), (1.3, exact), (9.1 * s, exact), (8.9 * s, tabulated), (6 * s, tabulated)):
        z = bound - distance
        gap = np.abs(ou.step(np.full(101, z), xi) - (z * np.exp(-kappa * dt) + s * xi))
        assert gap.max() <= allowed
        assert gap[np.abs(xi) <= 3].max() <= min(allowed, 1e-7 * s)
    at_the_edge = ou.step(np.full(101, bound), xi)
    assert np.all(at_the_edge < np.minimum(bound * np.exp(-kappa * dt) + s * xi, bound))


def test_away_from_edges_expected_exponentials_are_those_of_the_gaussian():
    kappa, sigma, dt = 0.5, 0.2, 0.25
    z, rate = np.linspace(-1.2, 1.2, 7), np.linspace(-1.0, 1.0, 7)
    time, weight = (NODES + 1) * dt / 2, WEIGHTS * dt / 2
    variance = sigma**2 * -np.expm1(-2 * kappa * time) / (2 * kappa)
    wanted = np.exp(rate[:, None] * time + z[:, None] * np.exp(-kappa * time) + variance / 2) @ weight
    given = ReflectedOU(kappa, sigma, 2.5, dt).discounted_exponential(z, rate)
    np.testing.assert_allclose(given, wanted, rtol=1e-13)


def test_it_stays_between_the_edges_and_moves_with_the_shock():
    for process in PROCESSES:
        ou, bound = ReflectedOU(*process), process[2]
        for z in np.linspace(-bound, bound, 9):
            y = ou.step(np.full(2001, z), np.linspace(-40, 40, 2001))
            assert np.all(np.abs(y) <= bound)
            assert np.all(np.diff(y) >= -1e-9 * bound)


def test_without_noise_it_decays():
    z, rate = np.linspace(-2.5, 2.5, 11), np.full(11, -0.3)
    ou = ReflectedOU(0.5, 0.0, 2.5, 0.25)
    np.testing.assert_allclose(ou.step(z, np.ones(11)), z * np.exp(-0.125), rtol=1e-15)
    time, weight = (NODES + 1) / 8, WEIGHTS / 8
    wanted = np.exp(rate[:, None] * time + z[:, None] * np.exp(-0.5 * time)) @ weight
    np.testing.assert_allclose(ou.discounted_exponential(z, rate), wanted, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1e-12, 1e-6, 1e-3])
def test_little_noise_is_nearly_none(sigma):
    """The edge pushes by about sigma^2/(2 kappa bound), the noise moves by about sigma/2; e^{z_s} feels their order."""
    z = 2.5 - np.linspace(0, 1e-3, 11)
    ou, still = (ReflectedOU(0.5, s, 2.5, 0.25) for s in (sigma, 0.0))
    assert np.abs(ou.step(z, np.full(11, 2.0)) - still.step(z, np.zeros(11))).max() < 2 * sigma
    pairs = [one.discounted_exponential(z, np.zeros(11)) for one in (ou, still)]
    np.testing.assert_allclose(*pairs, rtol=sigma + 1e-8)


def test_steps_too_long_are_refused():
    with pytest.raises(ParameterError, match="dt=41 is too long"):
        ReflectedOU(0.5, 0.2, 2.5, 41)
