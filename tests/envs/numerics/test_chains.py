"""Markov chains against the moments and the tables that they are to reproduce."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import chains

DEN_HAAN_JUDD_JUILLARD = [
    [0.525, 0.35, 0.03125, 0.09375],
    [0.038889, 0.836111, 0.002083, 0.122917],
    [0.09375, 0.03125, 0.291667, 0.583333],
    [0.009115, 0.115885, 0.024306, 0.850694],
]
"""Their table of (bad unemployed, bad employed, good unemployed, good employed)."""
AGGREGATE = np.array([[0.875, 0.125], [0.125, 0.875]])
PUBLISHED = (0.10, 0.04), (2.5, 1.5), (0.75, 1.25)


@settings(max_examples=50, deadline=None, database=None)
@given(st.floats(0.0, 0.99), st.floats(0.01, 2.0), st.integers(2, 9))
def test_rouwenhorst_has_the_moments_it_is_given(persistence, deviation, states):
    x, chain = chains.rouwenhorst(persistence, deviation, states)
    law = chains.stationary(chain)
    np.testing.assert_allclose(chain.sum(axis=1), 1, atol=1e-13)
    np.testing.assert_allclose(law, binom.pmf(np.arange(states), states - 1, 0.5), atol=1e-12)
    np.testing.assert_allclose([law @ x, law @ x**2], [0, deviation**2], atol=1e-12)
    np.testing.assert_allclose((law * x) @ chain @ x, persistence * deviation**2, atol=1e-12)


@pytest.mark.parametrize(("states", "tolerance"), [(5, 0.05), (51, 2e-3)])
def test_tauchen_has_its_deviation_and_with_many_states_its_persistence(states, tolerance):
    x, chain = chains.tauchen(0.9, 0.007, states)
    law = chains.stationary(chain)
    np.testing.assert_allclose(chain.sum(axis=1), 1, atol=1e-14)
    np.testing.assert_allclose([law @ x, np.sqrt(law @ x**2)], [0, 0.007], atol=1e-15)
    assert abs((law * x) @ chain @ x / 0.007**2 - 0.9) < tolerance


def test_one_state_is_no_process():
    for method in (chains.rouwenhorst, chains.tauchen):
        x, chain = method(0.9, 0.5, 1)
        assert x == 0
        assert chain == 1


def test_stationary_law_is_as_accurate_where_mass_is_small():
    rare = 1e-14
    law = chains.stationary(np.array([[1 - rare, rare], [0.5, 0.5]]))
    np.testing.assert_allclose(law, [1 / (1 + 2 * rare), 2 * rare / (1 + 2 * rare)], rtol=1e-14)


def test_employment_is_the_published_table():
    moves = chains.employment(AGGREGATE, *PUBLISHED)
    joint = AGGREGATE[:, None, :, None] * moves.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(joint.reshape(4, 4), DEN_HAAN_JUDD_JUILLARD, atol=5e-7)


def test_unemployment_depends_on_the_times_alone_and_spells_last_as_long_as_said():
    moves, rates = chains.employment(AGGREGATE, *PUBLISHED), np.array(PUBLISHED[0])
    z = chains.draw(AGGREGATE, np.int64(0), np.random.default_rng(0).random(500))
    shares = np.array([rates[0], 1 - rates[0]])
    for now, then in itertools.pairwise(z):
        shares = shares @ moves[now, then]
        np.testing.assert_allclose(shares[0], rates[then], atol=1e-15)
    np.testing.assert_allclose([1 / (1 - moves[s, s, 0, 0]) for s in (0, 1)], PUBLISHED[1])
    np.testing.assert_allclose(moves[0, 1, 0, 0], 0.75 * moves[1, 1, 0, 0])
    np.testing.assert_allclose(moves[1, 0, 0, 0], 1.25 * moves[0, 0, 0, 0])


def test_employment_refuses_what_leaves_no_probabilities():
    with pytest.raises(ParameterError, match="probabilities"):
        chains.employment(AGGREGATE, (0.10, 0.90), (2.5, 1.5), (0.75, 1.25))


def test_draws_have_the_chain_s_frequencies_whatever_the_batch():
    _, chain = chains.tauchen(0.9, 1.0, 3)
    uniforms = np.random.default_rng(1).random((4000, 20))
    paths = chains.draw(chain, np.zeros(20, dtype=np.int64), uniforms)
    counts = np.zeros((3, 3))
    np.add.at(counts, (paths[:-1], paths[1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), chain, atol=0.01)
    np.testing.assert_array_equal(paths[:, 3], chains.draw(chain, np.int64(0), uniforms[:, 3]))


@pytest.mark.parametrize(("persistence", "states"), [(0.95, 2), (0.99, 3), (0.9, 5), (0.5, 2), (0.3, 9), (0.98, 5)])
def test_tauchen_is_symmetric_tails_and_all(persistence, states):
    """Both ends are as likely: probabilities of 1e-30 at the upper end are no less exact than those at the lower."""
    x, chain = chains.tauchen(persistence, 0.5, states)
    np.testing.assert_allclose(chain, chain[::-1, ::-1], rtol=1e-10)
    law = chains.stationary(chain)
    np.testing.assert_allclose(law, law[::-1], rtol=1e-8)
    np.testing.assert_allclose([law @ x, law @ x**2], [0, 0.25], atol=1e-9)


def test_the_published_chain_has_another_autocorrelation_and_says_so():
    for persistence, states, right in ((0.9, 5, 0.9315), (0.99, 5, 0.99999993), (0.95, 51, 0.95)):
        assert abs(chains.autocorrelation(*chains.tauchen(persistence, 1.0, states)) - right) < 0.05 * (1 - right)
    np.testing.assert_allclose(chains.autocorrelation(*chains.rouwenhorst(0.97, 1.0, 7)), 0.97, rtol=1e-13)
    with pytest.raises(ParameterError, match=r"no chain of persistence 0\.9999: .*[Rr]ouwenhorst"):
        chains.tauchen(0.9999, 1.0, 5)


def test_reducible_chains_have_no_one_law():
    for chain in (np.eye(2), [[0.5, 0.5], [0.0, 1.0]]):
        with pytest.raises(ParameterError, match="no one stationary law"):
            chains.stationary(np.asarray(chain))
