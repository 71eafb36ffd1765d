"""Transport: the operator against a matrix filled cell by cell, its adjoint, what it conserves, and laws that stay."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from hacontrol_agents.equilibrium.transport import _by_torch, transport
from hacontrol_benchmarks.measure import transport as measure_transport
from hacontrol_envs.errors import EquilibriumError, ParameterError
from hacontrol_envs.numerics import lottery
from hacontrol_envs.numerics import stationary as stationary_module
from hacontrol_envs.numerics.transport import Transport, stationary_law

SHOCK = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.2, 0.8]])
GRIDS = {
    "dense below": np.expm1(np.expm1(np.linspace(0, 1.8, 30))),
    "uniform": np.linspace(-2.0, 7.0, 23),
    "two nodes": np.array([0.0, 1.0]),
    "two nodes, one bit apart": np.array([1.0, np.nextafter(1.0, 2.0)]),
    "dense above": -np.geomspace(1e9, 1e-9, 50),
    "dense inside": np.sort(np.concatenate([np.linspace(-5, 5, 11), 1 / 3 + 1e-12 * np.arange(40), [1e6]])),
    "tiny": 1e-200 * np.arange(9.0) ** 3,
    "far": 1e17 + 64.0 * np.arange(100) ** 2,
    "huge": np.array([-1e300, -3.0, 0.0, 1e-300, 2e-300, 5.0, 1e300]),
}


def economy(assets, batch=(), n_e=3, noise=0.0, seed=0):
    """A law, choices that are monotone but for the noise and leave the grid on both sides, values and a shock."""
    rng = np.random.default_rng(seed)
    shape = (*batch, n_e, len(assets))
    law = rng.exponential(size=shape) * (rng.random(shape) < 0.9) + 1e-30
    law /= law.sum(axis=(-2, -1), keepdims=True)
    middle, width = (assets[0] + assets[-1]) / 2, assets[-1] - assets[0]
    choice = middle + 0.95 * (assets - middle) + width * (0.1 * (rng.random((*batch, n_e, 1)) - 0.5))
    choice = choice + noise * width * rng.standard_normal(shape)
    shock = rng.exponential(size=(n_e, n_e)) * (rng.random((n_e, n_e)) < 0.7) + np.eye(n_e)
    return law, choice, rng.standard_normal(shape), shock / shock.sum(axis=-1, keepdims=True)


def by_hand(assets, choice, shock):
    """The matrix of one economy, cell by cell."""
    n_e, n_a = choice.shape
    matrix = np.zeros((n_e, n_a, n_e, n_a))
    for e in range(n_e):
        for j in range(n_a):
            k = 0
            while k < n_a - 2 and choice[e, j] >= assets[k + 1]:
                k += 1
            w = min(max((choice[e, j] - assets[k]) / (assets[k + 1] - assets[k]), 0.0), 1.0)
            for f in range(n_e):
                matrix[e, j, f, k] = shock[e, f] * (1 - w)
                matrix[e, j, f, k + 1] = shock[e, f] * w
    return matrix.reshape(n_e * n_a, n_e * n_a)


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("assets", [grid for name, grid in GRIDS.items() if name != "huge"], ids=lambda g: f"{g[-1]:g}")
def test_the_operator_is_the_matrix_filled_by_hand(assets, noise):
    law, choice, values, shock = economy(assets, noise=noise)
    T, matrix = Transport(assets, choice, shock), by_hand(assets, choice, shock)
    np.testing.assert_allclose(T.matrix().toarray(), matrix, atol=1e-15)
    np.testing.assert_allclose(T.T.matrix().toarray(), matrix.T, atol=1e-15)
    np.testing.assert_allclose((law @ T).ravel(), law.ravel() @ matrix, atol=1e-15)
    np.testing.assert_allclose((T @ values).ravel(), matrix @ values.ravel(), atol=1e-14)
    np.testing.assert_array_equal(T.T @ law, law @ T)
    np.testing.assert_array_equal(values @ T.T, T @ values)
    assert T.T.T is T


def test_identity_policy_leaves_assets_alone():
    law, _, values, _ = economy(GRIDS["dense below"])
    T = Transport(GRIDS["dense below"], np.broadcast_to(GRIDS["dense below"], law.shape), SHOCK)
    np.testing.assert_allclose(law @ T, SHOCK.T @ law, atol=1e-16)
    np.testing.assert_allclose(T @ values, SHOCK @ values, atol=1e-15)
    np.testing.assert_array_equal(law @ Transport(GRIDS["dense below"], T.choice, np.eye(3)), law)


@pytest.mark.parametrize("name", GRIDS)
def test_every_number_is_found(name):
    """At nodes, one bit beside them, and between, on grids for which the table was not made, too."""
    assets = GRIDS[name]
    between = assets[:-1] / 2 + assets[1:] / 2
    x = np.concatenate([assets, np.nextafter(assets, np.inf), np.nextafter(assets, -np.inf), between])[None]
    k, w = np.empty(x.shape, np.int32), np.empty(x.shape)
    lottery.locate(x, *lottery.lookup(assets), k, w)
    inside = np.clip(x, assets[0], assets[-1])
    expected = np.clip(np.searchsorted(assets, inside, side="right") - 1, 0, len(assets) - 2)
    np.testing.assert_array_equal(k, expected)
    np.testing.assert_allclose(w, (inside - assets[k]) / (assets[k + 1] - assets[k]), rtol=1e-15)
    assert w.min() >= 0
    assert w.max() <= 1


def shapes_of_economies():
    gaps = st.lists(st.floats(-12, 3).map(lambda power: 10.0**power), min_size=1, max_size=30)
    grids = st.tuples(st.floats(-100, 100), gaps).map(lambda pair: pair[0] + np.cumsum([0.0, *pair[1]]))
    return st.tuples(grids, st.integers(1, 5), st.sampled_from([(), (1,), (3,), (2, 2)]), st.floats(0, 2))


@settings(max_examples=150, deadline=None)
@given(shapes_of_economies(), st.integers(0, 2**32 - 1))
def test_any_policy_on_any_grid(shape, seed):
    assets, n_e, batch, noise = shape
    assume(np.all(np.diff(assets) > 0))
    law, choice, values, shock = economy(assets, batch, n_e, noise, seed)
    T = Transport(assets, choice, shock)
    moved, expected = law @ T, T @ values
    total = (-2, -1)
    assert moved.min() >= 0
    np.testing.assert_allclose(moved.sum(axis=total), 1, rtol=1e-14)
    mean = (law * np.clip(choice, assets[0], assets[-1])).sum(axis=total)
    np.testing.assert_allclose((moved * assets).sum(axis=total), mean, atol=1e-14 * np.abs(assets).max())
    np.testing.assert_allclose((moved * values).sum(axis=total), (law * expected).sum(axis=total), atol=1e-14)
    for i in np.ndindex(batch):
        one = Transport(assets, choice[i], shock)
        np.testing.assert_array_equal(law[i] @ one, moved[i])  # a row does not depend on its batch, to the last bit
        np.testing.assert_allclose(
            (T.T.T @ values)[i].ravel(), by_hand(assets, choice[i], shock) @ values[i].ravel(), atol=1e-13
        )


def test_leading_axes_broadcast():
    assets = GRIDS["dense below"]
    law, choice, values, _ = economy(assets, (4,))
    shocks = np.stack([SHOCK, SHOCK[::-1, ::-1]])[:, None]
    T = Transport(assets, choice, shocks)
    assert T.batch == (2, 4)
    for moved, mine in ((law @ T, law), (T @ values, values)):
        assert moved.shape == (2, 4, 3, 30)
        one = Transport(assets, choice[2], shocks[1, 0])
        np.testing.assert_array_equal(moved[1, 2], mine[2] @ one if mine is law else one @ mine[2])
    same = Transport(assets, choice[0], SHOCK)
    np.testing.assert_array_equal(law @ same, np.stack([m @ same for m in law]))
    assert (law[:0] @ same).shape == (0, 3, 30)


def test_more_economies_than_are_located_at_a_time():
    assets = GRIDS["uniform"]
    law, choice, values, shock = economy(assets, (1000,), noise=0.2)
    T = Transport(assets, choice, shock)
    for i in (0, 474, 475, 999):
        one = Transport(assets, choice[i], shock)
        np.testing.assert_array_equal((law @ T)[i], law[i] @ one)
        np.testing.assert_array_equal((T @ values)[i], one @ values[i])


def test_choices_beyond_the_grid_take_its_ends_and_are_reported():
    assets, shock = np.array([0.0, 1.0, 4.0]), np.array([[0.5, 0.5], [0.25, 0.75]])
    choice = np.array([[-1.0, 0.5, 4.0], [5.0, 1e9, 2.5]])
    law = np.array([[0.1, 0.2, 0.3], [0.15, 0.05, 0.2]])
    T = Transport(assets, choice, shock)
    up = law[0, 2] + law[1, 0] + law[1, 1] + law[1, 2] / 2
    assert (law @ T)[:, -1].sum() == pytest.approx(up, abs=1e-16)
    assert T.ends(law) == pytest.approx((up, 0.2, 0.1), abs=1e-16)
    assert T.ends(np.stack([law, law])).top.shape == (2,)
    slope = T.gradients(law, np.array([[0.0, 1.0, 4.0]] * 2))[1]
    np.testing.assert_allclose(slope, law * [[0, 1, 1], [0, 0, 1]], atol=1e-16)


@pytest.mark.parametrize("stray", [np.nan, np.inf, -np.inf])
def test_choices_that_are_not_numbers_are_refused(stray):
    choice = np.zeros((2, 3, 30))
    choice[1, 2, 17] = stray
    message = r"1 of 180 are not, the first at index \(1, 2, 17\): -?(nan|inf)"
    with pytest.raises(ParameterError, match=message):
        Transport(GRIDS["dense below"], choice, SHOCK)
    with pytest.raises(ParameterError, match=message):
        transport(torch.ones(2, 3, 30), torch.as_tensor(choice), GRIDS["dense below"], SHOCK)
    with pytest.raises(ParameterError, match="must be finite"):
        _by_torch(torch.ones(2, 3, 30), torch.as_tensor(choice), GRIDS["dense below"], SHOCK)


GRID, CHOICE = np.arange(4.0), np.ones((3, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], CHOICE[:, :1], SHOCK), "at least two nodes"),
        ((np.zeros((2, 2)), CHOICE, SHOCK), "at least two nodes"),
        (([0.0, 2.0, 1.0, 3.0], CHOICE, SHOCK), "increase"),
        (([0.0, 1.0, 1.0, 3.0], CHOICE, SHOCK), "increase"),
        (([0.0, 1.0, np.nan, 3.0], CHOICE, SHOCK), "increase"),
        (([0.0, 5e-324, 1.0, 3.0], CHOICE, SHOCK), "increase"),
        (([-1.5e308, 0.0, 1.0, 1.5e308], CHOICE, SHOCK), "increase"),
        ((GRID, CHOICE.T, SHOCK), r"choice must have shape \(..., n_e, n_a\) where"),
        ((GRID, CHOICE[0], SHOCK), "choice must have shape"),
        ((GRID, CHOICE, 1.0), "choice must have shape"),
        ((GRID, CHOICE, SHOCK[0]), "choice must have shape"),
        ((GRID, CHOICE, SHOCK[:2]), "probabilities"),
        ((GRID, CHOICE, SHOCK.T), "probabilities"),
        ((GRID, CHOICE, 1.1 * SHOCK), "probabilities"),
        ((GRID, CHOICE, np.full((3, 3), np.nan)), "probabilities"),
        ((["a", "b"], CHOICE, SHOCK), "assets must be an array of real numbers"),
        ((GRID, CHOICE + 1j, SHOCK), "real numbers, got dtype complex"),
        ((GRID, [[1.0], [1.0, 2.0]], SHOCK), "real numbers, got list"),
        ((GRID, CHOICE, [[0.5, 0.5], [-0.5, 1.5]]), "choice must have shape"),
        ((GRID, np.ones((2, 3, 4)), np.stack([SHOCK] * 3)), "do not fit"),
    ],
)
def test_what_is_not_a_transport_is_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        Transport(*arguments)


def test_laws_of_another_shape_are_refused():
    T = Transport(GRID, np.stack([CHOICE] * 2), SHOCK)
    for call in (lambda: CHOICE.T @ T, lambda: T @ GRID, lambda: T.T @ CHOICE.T, lambda: np.ones((3, 3, 4)) @ T):
        with pytest.raises(ParameterError, match=r"must have shape|do not fit"):
            call()
    for call in (T.matrix, lambda: stationary_law(T)):
        with pytest.raises(ParameterError, match=r"a batch \(2,\)"):
            call()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_mass_is_kept_for_10_000_quarters(noise):
    law, choice, _, shock = economy(np.linspace(0, 3, 12) ** 2, noise=noise)
    shock[:, 0] += 1e-12  # a matrix read from a file with twelve digits
    T, rng = Transport(np.linspace(0, 3, 12) ** 2, choice, shock), np.random.default_rng(1)
    transports = [T, Transport(T.assets, choice + 0.1 * rng.standard_normal(choice.shape), shock)]
    mass = [np.sum(law := law @ transports[quarter % 2]) for quarter in range(10_000)]
    assert np.abs(np.array(mass) - 1).max() <= 1e-12
    assert law.min() >= 0


def test_rows_of_the_shock_are_closed_beyond_rounding():
    rng = np.random.default_rng(0)
    shock = rng.random((50, 4, 4)) ** 5
    given_ = shock / shock.sum(axis=-1, keepdims=True)
    closed = Transport(GRID, np.zeros((4, 4)), given_).shock
    np.testing.assert_allclose(closed, given_, atol=1e-15)
    misses = [abs(1 - sum(map(Fraction, row))) for row in closed.reshape(-1, 4)]
    assert max(misses) <= 2.0**-54
    assert np.mean([float(miss) for miss in misses]) < 1e-17


# --- torch ---------------------------------------------------------------------------------------------------------


def tensors(assets, batch=(2,), noise=0.4, dtype=torch.float64):
    law, choice, values, shock = economy(assets, batch, noise=noise)
    return [torch.tensor(x, dtype=dtype) for x in (law, choice, values)], shock


@pytest.mark.parametrize("function", [transport, _by_torch])
def test_derivatives_are_those_of_finite_differences(function):
    (law, choice, _), shock = tensors(GRIDS["uniform"][:6])
    inputs = law.requires_grad_(), choice.requires_grad_()
    assert torch.autograd.gradcheck(lambda m, c: function(m, c, GRIDS["uniform"][:6], shock), inputs, eps=1e-7)
    choice.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda m: function(m, choice, GRIDS["uniform"][:6], shock), inputs[:1])


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_torch_operations_give_what_the_loops_give(dtype, near):
    (law, choice, values), shock = tensors(GRIDS["uniform"].astype(np.float32), dtype=dtype)
    results = []
    for function in (transport, _by_torch):
        inputs = law.clone().requires_grad_(), choice.clone().requires_grad_()
        moved = function(*inputs, GRIDS["uniform"].astype(np.float32), torch.as_tensor(shock))
        results.append([moved, *torch.autograd.grad(moved, inputs, values)])
        assert all(x.dtype == dtype for x in results[-1])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=near, rtol=near)
    grid = GRIDS["uniform"].astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(results[0][0].detach(), law.numpy() @ Transport(grid, choice.numpy(), shock), atol=near)


def test_choices_beyond_the_grid_have_no_derivative():
    law = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    for function in (transport, _by_torch):
        choice = torch.tensor([[-0.5, 0.5, 2.5]], dtype=torch.float64, requires_grad=True)
        moved = function(law, choice, np.arange(3.0), np.eye(1))
        (moved * torch.tensor([0.0, 1.0, 5.0])).sum().backward()
        np.testing.assert_allclose(choice.grad, [[0, 1 / 3, 0]], atol=1e-16)


def test_a_law_broadcast_over_policies_collects_their_derivatives():
    (law, choice, values), shock = tensors(GRIDS["uniform"], (5,))
    one = law[0].clone().requires_grad_()
    transport(one, choice, GRIDS["uniform"], shock).backward(values)
    expected = sum(
        Transport(GRIDS["uniform"], c.numpy(), shock) @ v.numpy() for c, v in zip(choice, values, strict=True)
    )
    np.testing.assert_allclose(one.grad, expected, atol=1e-14)


def test_an_operator_is_not_differentiated_after_a_change_of_its_choice():
    (law, choice, _), shock = tensors(GRIDS["uniform"])
    moved = transport(law.requires_grad_(), choice, GRIDS["uniform"], shock)
    choice += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        moved.sum().backward()


def test_tensors_of_other_kinds_are_refused():
    law = torch.ones(3, 4)
    for pair in ((law.half(), law.half()), (law.int(), law.int()), (law, torch.ones(3, 5)), (law[0], law[0])):
        with pytest.raises(ParameterError, match="transport takes a law and a choice"):
            transport(*pair, GRID, SHOCK)


# --- laws that stay ------------------------------------------------------------------------------------------------


def settled(T, law, periods):
    for _ in range(periods):
        law = law @ T
    return law


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_stationary_law_is_where_a_law_settles(noise):
    _, choice, _, _ = economy(GRIDS["uniform"], noise=noise)
    T = Transport(GRIDS["uniform"], choice, SHOCK)
    law = stationary_law(T)
    assert law.min() >= 0
    assert law.sum() == pytest.approx(1, abs=1e-15)
    assert np.abs(law @ T - law).sum() < 1e-15
    np.testing.assert_allclose(law, settled(T, np.full(law.shape, 1 / law.size), 4000), atol=1e-13)
    np.testing.assert_allclose(law.sum(axis=-1), stationary_law(SHOCK), atol=1e-15)


def test_stationary_law_in_closed_form():
    """Choices that depend on e alone: law(k, f) = sum over e of pi(e) w_k(a'(e)) P(e, f), pi by detailed balance."""
    choice = np.array([0.25, 1.0, 2.75])
    pi = np.array([2.0, 4.0, 1.0]) / 7
    np.testing.assert_allclose(stationary_law(SHOCK), pi, atol=1e-16)
    weights = np.array([[0.75, 0.25, 0, 0], [0, 1, 0, 0], [0, 0, 0.25, 0.75]])
    law = stationary_law(Transport(GRID, np.repeat(choice[:, None], 4, axis=1), SHOCK))
    np.testing.assert_allclose(law, SHOCK.T @ (pi[:, None] * weights), atol=1e-15)


def test_a_random_walk_between_walls_is_geometric():
    """Mass 1e-60 at the far end, and each mass to its own precision or to that of the whole."""
    count, up, down = 200, 0.2, 0.4
    walk = sparse.diags_array([np.full(count - 1, up), np.full(count - 1, down)], offsets=[1, -1]).toarray()
    walk += np.diag(1 - walk.sum(axis=1))
    law = stationary_law(walk)
    np.testing.assert_allclose(law[:100], 0.5 ** np.arange(1, 101), rtol=1e-12)
    assert law.min() >= 0


def test_states_that_are_left_have_no_mass():
    leave = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])
    np.testing.assert_array_equal(stationary_law(leave), [0, 0.5, 0.5])
    np.testing.assert_array_equal(stationary_law(np.eye(1)), [1])


def test_of_several_stationary_laws_the_one_to_which_a_uniform_law_moves():
    law = stationary_law(Transport(GRID, np.broadcast_to(GRID, (3, 4)), SHOCK))
    np.testing.assert_allclose(law, np.outer([2 / 7, 4 / 7, 1 / 7], np.full(4, 0.25)), atol=1e-16)
    np.testing.assert_array_equal(stationary_law(np.eye(5)), np.full(5, 0.2))
    ruin = np.diag(np.full(4, 0.6), 1) + np.diag(np.full(4, 0.4), -1)  # a gambler between 0 and 4
    ruin[[0, 0, -1, -1], [0, 1, -1, -2]] = 1, 0, 1, 0
    wins = (1 - (2 / 3) ** np.arange(5)) / (1 - (2 / 3) ** 4)
    np.testing.assert_allclose(stationary_law(ruin), [1 - wins.mean(), 0, 0, 0, wins.mean()], atol=1e-15)


def test_chains_that_cycle():
    np.testing.assert_allclose(stationary_law(np.roll(np.eye(4), 1, axis=1)), 0.25, atol=1e-15)
    np.testing.assert_allclose(stationary_law(np.kron(np.eye(2), [[0.0, 1.0], [1.0, 0.0]])), 0.25, atol=1e-15)


def test_matrices_that_are_no_chain_and_laws_that_do_not_stay(monkeypatch):
    wrong = {"square": np.ones((2, 3)) / 3, "sum to one": 2 * np.eye(2), "nonneg": np.array([[2.0, -1.0], [0, 1]])}
    for message, matrix in wrong.items():
        with pytest.raises(ParameterError, match=message):
            stationary_law(matrix)
    monkeypatch.setattr(stationary_module, "ROUNDING", -1.0)
    with pytest.raises(EquilibriumError, match="still moves"):
        stationary_law(SHOCK)


# --- what it costs -------------------------------------------------------------------------------------------------


def test_the_command_that_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_transport, "CELLS", 100)
    monkeypatch.setattr(measure_transport, "QUARTERS", 20)
    monkeypatch.setattr(measure_transport, "SIZES", ((3, 9, 2),))
    rows = measure_transport.measure(repeats=1)
    assert {row["policy"] for row in rows} == {"monotone", "noisy"}
    assert all(row["met"] for row in rows if row["what"] == measure_transport.MASS)
    measure_transport.main(repeats=1, json=tmp_path / "transport.json")
    assert b'"what": "ours"' in (tmp_path / "transport.json").read_bytes()


@pytest.mark.parametrize("policy", ["monotone", "noisy"])
def test_contenders_move_laws_alike(policy):
    given_ = measure_transport.case((4, 30, 3), policy)
    calls = measure_transport._contenders(given_)
    ours = calls[measure_transport.OURS]()
    np.testing.assert_allclose(calls[measure_transport.LOOP](), ours, atol=1e-15)
    if measure_transport.STACKED in calls:
        np.testing.assert_allclose(np.swapaxes(calls[measure_transport.STACKED](), 0, 1), ours, atol=1e-15)
        np.testing.assert_allclose(calls[measure_transport.ONE_BY_ONE](), ours, atol=1e-15)


def test_a_law_with_mass_at_one_end_only_is_found_from_there():
    """Steps up .3, down .1 on 400 nodes: masses in ratio 3, so that the lowest has 3^-399 of the highest."""
    n, up, down = 400, 0.3, 0.1
    chain = np.diag(np.full(n - 1, up), 1) + np.diag(np.full(n - 1, down), -1)
    chain += np.diag(1 - chain.sum(axis=1))
    right = 3.0 ** (np.arange(n) - (n - 1.0))
    np.testing.assert_allclose(stationary_law(chain), right / right.sum(), rtol=1e-9, atol=1e-14)
