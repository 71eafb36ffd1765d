"""Domain: unit coordinates, their derivatives and Ito's formula, and what it refuses."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from hacontrol_envs import Domain
from hacontrol_envs.errors import ParameterError

DOMAINS = [
    Domain(["x"], [-1.0], [3.0]),
    Domain(["w"], [0.1], [10.0], "log"),
    Domain(["w", "x", "k"], [0.1, -2.0, 1e-3], [10.0, 5.0, 1.0], ["log", "linear", "log"]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
@pytest.mark.parametrize("convert", [np.asarray, partial(torch.as_tensor, dtype=torch.float64)], ids=["numpy", "torch"])
def test_unit_coordinates_invert(domain, convert):
    u = np.random.default_rng(0).uniform(-1.5, 1.5, (200, domain.dimension))
    x = domain.from_unit(convert(u))
    assert np.abs(np.asarray(domain.to_unit(x)) - u).max() < 1e-13
    ends = np.asarray(domain.to_unit(convert(np.stack([domain.low, domain.high]))))
    np.testing.assert_allclose(ends, [[-1.0] * domain.dimension, [1.0] * domain.dimension], rtol=1e-13)


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_unit_derivatives_are_derivatives(domain):
    x = domain.from_unit(np.random.default_rng(0).uniform(-1, 1, (100, domain.dimension)))
    h = 1e-4 * np.where(domain.log, x, 1.0)
    up, here, down = (domain.to_unit(x + s * h) for s in (1, 0, -1))
    first, second = domain.unit_derivatives(x)
    np.testing.assert_allclose(first, (up - down) / (2 * h), rtol=1e-7)
    np.testing.assert_allclose(second, (up - 2 * here + down) / h**2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_ito_against_moments_of_a_short_step(domain):
    """E[u(X_h) - u(x)]/h and Cov/h for X_h = x + b h + sigma sqrt(h) z, by quadrature, extrapolated to h = 0."""
    rng, n = np.random.default_rng(0), domain.dimension
    x = domain.from_unit(rng.uniform(-1, 1, n))
    b, sigma = x * rng.normal(size=n), x[:, None] * 0.5 * rng.normal(size=(n, 2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    z = np.array([(p, q) for p in nodes for q in nodes])
    w = np.outer(weights, weights).ravel() / weights.sum() ** 2

    def rates(h):
        du = domain.to_unit(x + b * h + np.sqrt(h) * z @ sigma.T) - domain.to_unit(x)
        return w @ du / h, np.einsum("k,ki,kj->ij", w, du, du) / h

    coarse, fine = rates(2e-4), rates(1e-4)
    drift, diffusion = domain.ito(x, b, sigma)
    np.testing.assert_allclose(2 * fine[0] - coarse[0], drift, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(2 * fine[1] - coarse[1], diffusion @ diffusion.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        ([], [], []),
        (["x"], [0.0], [0.0]),
        (["x"], [1.0], [0.0]),
        (["x"], [0.0], [np.inf]),
        (["x"], [np.nan], [1.0]),
        (["x"], [0.0], [1.0], "log"),
        (["x"], [-1.0], [1.0], "log"),
        (["x", "y"], [0.0], [1.0]),
        (["x"], [0.0, 1.0], [1.0, 2.0]),
        (["x"], [0.1], [1.0], ["log", "log"]),
        (["x"], [0.0], [1.0], "linear", "closed"),
        (["x"], [0.0], [1.0], "linear", ["open", "open"]),
    ],
)
def test_bad_domains_are_refused(bad):
    with pytest.raises(ParameterError):
        Domain(*bad)


CLOSED = Domain(
    ["w", "k", "y", "z"], [1.0, 0.5, -1.0, 0.0], [4.0, 2.0, 1.0, 3.0], ["log", "log", "linear", "linear"],
    ["reflecting", "constrained", "open", "reflecting"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("beyond", "back"),
    [
        ([6.0, 3.0, 7.0, 3.5], [16 / 6, 2.0, 7.0, 2.5]),  # a logarithm folds at log 4: 4 (4/6)
        ([0.9, 0.1, -7.0, -1.0], [1 / 0.9, 0.5, -7.0, 1.0]),
        ([64.0, 9.0, 1.0, 10.0], [4.0, 2.0, 1.0, 2.0]),  # folded twice
        ([1.0, 2.0, -1.0, 3.0], [1.0, 2.0, -1.0, 3.0]),
    ],
)
def test_confine_folds_and_holds(beyond, back):
    x = np.array(beyond)
    np.testing.assert_allclose(CLOSED.confine(x), back, rtol=1e-14)
    np.testing.assert_array_equal(x, beyond)


def test_confine_leaves_what_is_within_to_the_last_bit():
    within = CLOSED.from_unit(np.random.default_rng(0).uniform(-1, 1, (40, 3, 4)))
    np.testing.assert_array_equal(CLOSED.confine(within), within)
    far = CLOSED.from_unit(np.random.default_rng(1).normal(0, 9, (40, 3, 4)))
    once = CLOSED.confine(far)
    assert np.all((CLOSED.low <= once) & (once <= CLOSED.high) | ~CLOSED.closed)
    np.testing.assert_array_equal(CLOSED.confine(once), once)
    np.testing.assert_array_equal(once[..., 2], far[..., 2])
    anywhere = DOMAINS[2].from_unit(np.random.default_rng(1).normal(0, 9, (40, 3)))
    np.testing.assert_array_equal(DOMAINS[2].confine(anywhere), anywhere)


def test_folding_is_reflection():
    """The law of a folded random walk with symmetric steps is that of the walk reflected at every step."""
    line = Domain(["x"], [0.0], [1.0], "linear", "reflecting")
    steps = np.random.default_rng(2).choice([-0.1, 0.1], (50, 4000)) + 0.0
    free, folded = 0.45 + steps.sum(axis=0), np.full(4000, 0.45)
    for step in steps:
        folded = line.confine((folded + step)[:, None])[:, 0]
    counts = [
        np.bincount(np.rint((x * 20 - 1) / 2).astype(int), minlength=10)
        for x in (folded, line.confine(free[:, None])[:, 0])
    ]
    assert np.all(np.abs(counts[0] - counts[1]) < 5 * np.sqrt(counts[0] + counts[1]))


@pytest.mark.parametrize("convert", [np.asarray, partial(torch.as_tensor, dtype=torch.float64)], ids=["numpy", "torch"])
def test_clip_is_the_nearest_point_of_the_box(convert):
    x = np.array([[9.0, 0.1, -7.0, 1.5], [0.5, 1.0, 0.25, -1.0]])
    clipped = CLOSED.clip(convert(x))
    assert isinstance(clipped, type(convert(x)))
    np.testing.assert_array_equal(np.asarray(clipped), [[4.0, 0.5, -1.0, 1.5], [1.0, 1.0, 0.25, 0.0]])
