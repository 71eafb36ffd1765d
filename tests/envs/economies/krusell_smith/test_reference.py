"""The reference solution of Krusell-Smith against published figures, closed forms, its own equations and its file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.krusell_smith_economies import economy, tiny
from hacontrol_envs.economies.krusell_smith import fixed_point, solving
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.economies.krusell_smith.law_of_motion import Beliefs, LawOfMotion, Nodes
from hacontrol_envs.economies.krusell_smith.paths import simulate
from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import disk_cache

PUBLISHED: dict[str, dict[str, Any]] = {
    "ssj": {"capital": 33.144, "slopes": {0: 0.9730, 4: 0.9721}, "r2": 0.9999999, "den_haan": 0.006},
    "jedc": {
        "capital": 39.419,
        "slopes": {0: 0.96525, 1: 0.96328},
        "constants": {0: 0.12498, 1: 0.13759},
        "r2": 0.999998,
        "den_haan": 0.06,
    },
}


@pytest.fixture(params=PUBLISHED)
def solution(request: pytest.FixtureRequest) -> ReferenceSolution:
    return economy(request.param).reference_solution()


@pytest.mark.slow
def test_published_figures(solution):
    published = PUBLISHED[solution.economy.parameters["calibration"]]
    assert abs(solution.capital / published["capital"] - 1) < 1e-3
    log_linear = solution.economy.reference_solution(beliefs="log-linear")  # as the published ones were found
    for column, name in enumerate(("constants", "slopes")):
        for z, b in published.get(name, {}).items():
            assert abs(log_linear.law_of_motion.coefficients[z, column] - b) < 1e-3
            assert abs(solution.law_of_motion.coefficients[z, column] - b) < 2e-3
    assert abs(log_linear.capital / published["capital"] - 1) < 1e-3
    assert solution.den_haan.mean < log_linear.den_haan.mean < published["den_haan"]
    assert solution.euler.mean < log_linear.euler.mean - 0.1
    assert solution.r2.min() > published["r2"]
    assert solution.beliefs_r2.min() > 0.9999998
    assert solution.gap < 1e-7
    assert solution.den_haan.max < 4 * published["den_haan"]
    assert solution.euler.mean < -5.5
    assert solution.euler.mean < solution.euler.high <= solution.euler.max < -2
    assert solution.share_at_top < 1e-8


def test_mean_capital_is_that_of_a_very_long_path():
    law, chain = LawOfMotion(np.array([[0.12, 0.966], [0.14, 0.963]])), np.array([[0.8, 0.2], [0.1, 0.9]])
    rng, z = np.random.default_rng(0), np.zeros(500, dtype=np.int64)
    total, K = 0.0, np.full(500, 40.0)
    for t in range(3000):
        K, z = law(K, z), (rng.random(500) < np.where(z == 0, 0.2, 0.9)).astype(np.int64)
        total += K.mean() / 2000 if t >= 1000 else 0.0
    np.testing.assert_allclose(law.mean_capital(chain), total, rtol=4e-4)
    np.testing.assert_allclose(law.forecast(40.0, np.array([0, 1, 1]))[1], law(40.0, 0))


@pytest.mark.slow
def test_brock_mirman():
    """Without idiosyncratic risk, with log utility and full depreciation, a' = alpha beta Z K^alpha."""
    one = KrusellSmith(
        "ssj", depreciation=1.0, intertemporal_elasticity=1.0, income_states=1, productivity_deviation=0.05,
        asset_max=3.0, asset_nodes=400,
    )  # fmt: skip
    share, alpha = one.capital_share * one.discount_factor, one.capital_share
    center = float(np.log(share) / (1 - alpha))
    coefficients = np.zeros((5, 6, 4))
    coefficients[:, 0, 0] = np.log(share * one.productivity) + alpha * center
    coefficients[:, 0, 1] = alpha
    nodes = Nodes(center - 0.3, center + 0.3, 9, np.zeros(1))
    thresholds = np.tile(one.assets, (5, 9, 1, 1))
    fixed_point.Households(one).solve(thresholds, nodes, Beliefs(coefficients, center), 1e-10)
    solution = dataclasses.replace(tiny().reference_solution(), economy=one, nodes=nodes, thresholds=thresholds)
    K, z = np.exp(center + np.linspace(-0.25, 0.25, 21)), np.arange(5)[:, None]
    optimal = share * one.productivity[z] * K**alpha
    np.testing.assert_allclose(solution.saving(K, 0, z, K), optimal, rtol=1e-5)


def test_policy_is_one_function(solution):
    """Of households, of the grid, of points: always the same a'; c and a' exhaust cash."""
    one, (z, laws) = solution.economy, solution.ergodic
    n_e, n_a = laws.shape[1:]
    K, v = one.capital_of(laws), solution.moment.of(laws, one.capital_of(laws), z)
    on_grid = solution.saving_on_grid(z, K, v)
    assert on_grid.shape == laws.shape
    assets = np.broadcast_to(np.tile(one.assets, n_e), (len(z), n_e * n_a))
    e = np.broadcast_to(np.repeat(np.arange(n_e), n_a), (len(z), n_e * n_a))
    np.testing.assert_allclose(solution.policy(assets, e, z, laws).reshape(laws.shape), on_grid, atol=1e-12)
    rng = np.random.default_rng(0)
    a, who = rng.uniform(-1, 500, 50), rng.integers(0, n_e, 50)
    at, now = rng.uniform(30, 45, 50), rng.integers(0, len(one.productivity), 50)
    together = solution.saving(a, who, now, at)
    alone = [solution.saving(*one_household) for one_household in zip(a, who, now, at, strict=True)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(together + solution.consumption(a, who, now, at), one.cash(a, who, now, at))
    assert np.all(np.diff(on_grid) >= 0)
    whole = solution.policy(assets, e, z, laws)
    for row in (0, 17, 63):
        np.testing.assert_array_equal(solution.policy(assets[row], e[row], z[row], laws[row]), whole[row])


def test_compiled_paths_are_those_of_the_operator(solution):
    one, law = solution.economy, solution.ergodic.laws[3]
    z = solution.simulate(200, 5).z
    z = np.concatenate([[solution.ergodic.z[3]], z[1:]])
    fast, slow = solution.simulate(200, z=z, law=law, every=50), simulate(one, solution.policy, z, law, every=50)
    np.testing.assert_allclose(fast.capital, slow.capital, rtol=1e-11)
    np.testing.assert_array_equal(fast.kept, slow.kept)
    np.testing.assert_allclose(fast.laws, slow.laws, atol=1e-11)
    side_by_side = simulate(one, solution.policy, np.stack([z, z], axis=-1)[:20], law)
    np.testing.assert_allclose(side_by_side.capital[:, 1], fast.capital[:20], rtol=1e-11)
    invested = np.diff(fast.capital) + one.depreciation * fast.capital[:-1]
    np.testing.assert_allclose(fast.consumption + invested, fast.output[:-1])
    with pytest.raises(ParameterError, match="which states of Z"):
        solution.simulate(10, law=law)


@pytest.mark.slow
def test_value_solves_bellmans_equation(solution):
    one = solution.economy
    z, K, v = int(solution.ergodic.z[5]), float(one.capital_of(solution.ergodic.laws[5])), 1e-5
    a, e = np.linspace(0, 120, 61), np.arange(len(one.skill))[:, None]
    c, saving = solution.consumption(a, e, z, K, v), solution.saving(a, e, z, K, v)
    x, v_next = solution.beliefs(np.log(K), v, z)
    ahead = np.zeros_like(c)
    for y in range(len(one.productivity)):
        for f in range(len(one.skill)):
            chance = one.aggregate_chain[z, y] * one.income_chain[z, y, :, f]
            ahead += chance[:, None] * solution.value(saving, f, y, np.exp(x), v_next[y])
    V = solution.value(a, e, z, K, v)
    np.testing.assert_allclose(V, one.utility(c) + one.discount_factor * ahead, rtol=1e-6)
    assert np.all(np.diff(V) > 0)
    assert np.all(np.diff(V, axis=0) > 0)
    slope = (solution.value(a[1:] + 1e-3, e, z, K, v) - solution.value(a[1:] - 1e-3, e, z, K, v)) / 2e-3
    R = 1 + one.prices(K, z).interest_rate
    np.testing.assert_allclose(slope, R * one.marginal_utility(c[:, 1:]), rtol=2e-3)


def test_impulse_response_and_plots(solution):
    found = solution.impulse_response(40, draws=16)
    assert len(found.capital) == 41
    assert found.productivity[0] > 0.005
    np.testing.assert_allclose(found.capital[0], 0, atol=1e-13)
    assert np.all(found.capital[1:] > 0)
    assert found.output[0] >= found.consumption[0] > 0
    assert found.productivity[-1] < found.productivity[0] / 3
    assert [axes.get_title() for axes in found.plot().axes] == [name.replace("_", " ") for name in found.errors]
    assert len(solution.simulate(300).plot().axes) == 3
    with pytest.raises(ParameterError, match="Z has states 0 to"):
        solution.impulse_response(4, to=9)


@pytest.mark.slow
def test_published_beliefs_are_an_option():
    """With K alone households forecast less well, and the economy is nearly the same."""
    best = tiny().reference_solution()
    for form in ("log-linear", "quadratic"):
        found = tiny().reference_solution(beliefs=form)
        assert np.all(found.beliefs_r2 < best.beliefs_r2)
        assert np.all(found.beliefs.coefficients[..., 3] == 0)
        assert np.any(found.beliefs.coefficients[..., 2] != 0) == (form == "quadratic")
        assert found.euler.mean > best.euler.mean
        assert abs(found.capital / best.capital - 1) < 1e-3
    with pytest.raises(ParameterError, match="log-linear"):
        tiny().reference_solution(beliefs="cubic")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.mark.slow
def test_solution_is_kept_on_disk_with_its_parameters(cache, monkeypatch):
    first = KrusellSmith("jedc", asset_nodes=60).reference_solution(progress=True)
    (file,) = cache.iterdir()
    with np.load(file, allow_pickle=False) as arrays:
        about = json.loads(str(arrays[disk_cache.LABEL]))
    assert about["parameters"]["asset_nodes"] == 60
    assert about["parameters"]["discount_factor"] == 0.99

    def fail(*_: Any) -> None:
        raise AssertionError("computed although it was there")

    with monkeypatch.context() as patch:
        patch.setattr(fixed_point, "solve", fail)
        again = KrusellSmith("jedc", asset_nodes=60, discount_factor=0.99).reference_solution()
        with pytest.raises(AssertionError, match="although"):
            KrusellSmith("jedc", asset_nodes=60, discount_factor=0.985).reference_solution()
    for name in ("euler", "den_haan", "gap", "share_at_top", "form", "capital"):
        assert getattr(again, name) == getattr(first, name)
    for name in ("thresholds", "r2", "beliefs_r2"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    law = first.ergodic.laws[0]
    households = np.ones(3), np.ones(3, dtype=np.int64), 0, law
    np.testing.assert_array_equal(again.policy(*households), first.policy(*households))


def _forged(arrays: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Files that someone made who knows how to seal them: each with one thing changed."""
    poisoned = 1.3 * arrays["thresholds"]
    shifted = arrays["laws"][:, :, ::-1].copy()
    beliefs, worse, later = arrays["beliefs"].copy(), arrays["law_of_motion"].copy(), arrays["z"].copy()
    beliefs[:, 0, 0] += 0.01
    worse[:, 0] += 0.01
    later[:] = 7
    others = arrays["others"] * np.array([1.0, 1.0, 0.0, 1.0])
    return {
        "a poisoned policy": {"thresholds": poisoned},
        "policies of another economy": {"thresholds": arrays["thresholds"] + 0.01},
        "another belief": {"beliefs": beliefs},
        "another law of motion": {"law_of_motion": worse},
        "no forecast error": {"den_haan": np.zeros(2)},
        "no Euler error": {"euler": np.full(3, -12.0)},
        "nobody at the top": {"others": others},
        "other laws": {"laws": shifted},
        "laws that are none": {"laws": 2 * arrays["laws"]},
        "states of Z that are none": {"z": later},
        "a short table": {"thresholds": arrays["thresholds"][..., :-1]},
        "a wide table": {"thresholds": np.concatenate([arrays["thresholds"]] * 2, axis=1)},
        "single precision": {"thresholds": arrays["thresholds"].astype(np.float32)},
        "another count of nodes": {"nodes": np.array([*arrays["nodes"][:2], 1e9])},
        "no numbers": {"thresholds": np.full_like(arrays["thresholds"], np.nan)},
        "infinite figures": {"euler": np.full(3, np.inf)},
        "an R2 above one": {"r2": arrays["r2"] + 1},
        "no moment": {"phi": np.zeros_like(arrays["phi"])},
    }


@pytest.mark.slow
def test_forged_files_count_as_absent(cache):
    """A digest can be made by whoever writes a file; what the file says is recomputed."""
    first = KrusellSmith("jedc", asset_nodes=60).reference_solution()
    (file,) = cache.iterdir()
    with np.load(file, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files if name not in (disk_cache.LABEL, disk_cache.SEAL)}
        about = json.loads(str(kept[disk_cache.LABEL]))
    assert disk_cache.place("krusell-smith", about) == file
    load = solving._kept
    one = KrusellSmith("jedc", asset_nodes=60)
    assert load(one, "two moments", about).capital == first.capital
    for name, changed in _forged(arrays).items():
        disk_cache.write("krusell-smith", about, arrays | changed)
        assert disk_cache.read("krusell-smith", about) is not None, name  # well sealed
        assert load(one, "two moments", about) is None, name
    for missing in arrays:
        disk_cache.write("krusell-smith", about, {name: array for name, array in arrays.items() if name != missing})
        assert load(one, "two moments", about) is None, missing
    disk_cache.write("krusell-smith", about, arrays | {"den_haan": np.zeros(2)})
    assert one.reference_solution().den_haan == first.den_haan  # computed anew
    assert load(one, "two moments", about).den_haan == first.den_haan  # and put there


def test_a_file_whose_numbers_were_altered_is_not_read(cache):
    disk_cache.write("thing", {"n": 1}, {"x": np.arange(4.0), "y": np.ones(2)})
    path = disk_cache.place("thing", {"n": 1})
    with np.load(path) as kept:
        entries = dict(kept)
    for changed in ({"x": np.arange(4.0) * 1.3}, {"x": np.arange(4)}, {"x": np.arange(4.0)[None]}, {"z": np.ones(1)}):
        np.savez(path, **entries | changed)
        assert disk_cache.read("thing", {"n": 1}) is None
    np.savez_compressed(path, **entries)  # so that a small file cannot ask for much memory
    assert disk_cache.read("thing", {"n": 1}) is None
    np.savez(path, **entries)
    assert disk_cache.read("thing", {"n": 1}) is not None


def test_whatever_is_wrong_with_a_file_it_counts_as_absent(cache):
    about, arrays = {"n": 1}, {"x": np.arange(4.0)}
    assert disk_cache.read("thing", about) is None
    disk_cache.write("thing", about, arrays)
    np.testing.assert_array_equal(disk_cache.read("thing", about)["x"], arrays["x"])
    path = disk_cache.place("thing", about)
    whole = path.read_bytes()
    for torn in (b"", whole[: len(whole) // 2], whole[:-1], b"no archive", whole.replace(b"{", b"[", 1)):
        path.write_bytes(torn)
        assert disk_cache.read("thing", about) is None
    foreign = disk_cache.place("thing", {"n": 2})
    foreign.write_bytes(whole)  # about something else than its name says
    assert disk_cache.read("thing", {"n": 2}) is None
    np.savez(path, x=np.arange(3))  # without a label
    assert disk_cache.read("thing", about) is None
    np.savez(path, x=np.array([{}], dtype=object), parameters=np.array('{"n": 1}'))  # to be unpickled
    assert disk_cache.read("thing", about) is None
    assert [one.suffix for one in cache.iterdir()] == [".npz", ".npz"]


def test_who_cannot_write_does_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "file"))
    disk_cache.write("thing", {}, {"x": np.ones(1)})
    assert disk_cache.read("thing", {}) is None
    monkeypatch.delenv(disk_cache.VARIABLE)
    assert disk_cache.folder().name == "hacontrol"
