"""Revisions are compared to the bit: what differs, is missing or cannot be had is said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hacontrol_benchmarks.measure import fixed_cases, unchanged
from hacontrol_envs.errors import ParameterError

ONE = {"a": np.array([1.0, 2.0, np.nan]), "b": np.array(3)}


def test_what_is_equal_to_the_bit_is_met() -> None:
    row = unchanged.compared("case", ONE, {**ONE, "new": np.zeros(2)})
    assert (row["equal"], row["met"], row["difference"], row["figures"]) == (True, True, 0.0, 4)
    assert (row["added"], row["gone"]) == (["new"], [])


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"a": np.array([1.0, 2.0 + 1e-9, np.nan])}, 5e-10),
        ({"a": np.array([1.0, 2.0, 0.0])}, np.inf),
        ({"a": np.array([1.0, 2.0])}, np.inf),
        ({"a": np.array([1.0, 2.0, np.nan], np.float32)}, 0.0),
        ({"a": np.array([-1.0, 2.0, np.nan])}, 2.0),
    ],
)
def test_what_differs_is_missed(changed: fixed_cases.Figures, difference: float) -> None:
    row = unchanged.compared("case", ONE, {**ONE, **changed})
    assert not row["equal"]
    assert not row["met"]
    assert row["difference"] == pytest.approx(difference, rel=1e-6)


def test_what_is_gone_is_missed_but_for_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unchanged.compared("case", ONE, {"a": ONE["a"]})["met"]
    assert not unchanged.compared("case", ONE, {})["met"]
    monkeypatch.setitem(unchanged.CHANGED, "case", "a reason")
    assert unchanged.compared("case", ONE, {})["met"]


def test_an_unknown_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=re.escape("git has no revision 'no-such-revision' here")):
        unchanged.checked_out("no-such-revision", tmp_path / "old")


@pytest.mark.slow
def test_the_working_tree_computes_what_its_last_commit_does() -> None:
    """Each in its own process, which asserts where it imports from."""
    rows = unchanged.measure("HEAD", only="optimum of BrockMirman")
    assert [row["what"] for row in rows] == [name for name in fixed_cases.cases() if "optimum of Brock" in name]
    assert all(row["met"] and row["figures"] == 2 * fixed_cases.POINTS for row in rows)
