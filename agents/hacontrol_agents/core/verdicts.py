"""Errors and warnings about learning that failed or did not converge, and checks that results are finite."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import array_api_compat
import numpy as np

from hacontrol_envs.errors import ConvergenceWarning, LearningError

SEEN = 64
"""Number of states at which what was learnt must be finite."""


def not_a_number() -> tuple[type[Exception], ...]:
    """Return the exceptions that numerical routines raise where they meet numbers that are not finite, or singular
    matrices: NumPy's, and torch's where torch is imported."""
    torch = sys.modules.get("torch")
    ours = (FloatingPointError, OverflowError, np.linalg.LinAlgError)
    return ours if torch is None else (*ours, torch.linalg.LinAlgError)


def first_not_finite(values: Mapping[str, Any]) -> str | None:
    """Return the name of the first entry that is not finite, with its value; None if there is none.

    Entries are numbers, arrays, tensors of any shape, or lists and dictionaries of such. Whole numbers, words and truth
    values are finite.
    """
    return next(_not_finite("", values), None)


def _not_finite(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _not_finite(f"{name}.{key}" if name else str(key), entry)
    elif isinstance(value, (list, tuple)):
        for place, entry in enumerate(value):
            yield from _not_finite(f"{name}[{place}]", entry)
    elif array_api_compat.is_torch_array(value):
        if (value.is_floating_point() or value.is_complex()) and not bool(value.isfinite().all()):
            yield f"{name} ({int((~value.isfinite()).sum())} of {value.numel()} entries)"
    elif isinstance(value, (float, np.ndarray, np.generic)):
        found = np.asarray(value)
        if found.dtype.kind in "fc" and not np.isfinite(found).all():
            count = int((~np.isfinite(found)).sum())
            yield f"{name} ({count} of {found.size} entries)" if found.ndim else f"{name} = {value}"


def failure(title: str, rows: list[dict[str, float]], what: str) -> LearningError:
    """Return the error that `what` was not finite in learning.

    Args:
        title: the learner and its subject, in words.
        rows: rows of the learner's history so far.
        what: the quantity that was not finite, in words.
    """
    return LearningError(
        f"{title} has not learnt: not finite in iteration {len(rows) + 1}: {what}. Try another seed, fewer or smaller "
        "steps, a larger discount, or units in which rewards, states and actions are of order one; and see that the "
        "problem's coefficients are finite all over its box (check_problem)"
    )


def warn_unmet(title: str, rows: list[dict[str, float]], reason: str) -> None:
    """Warn, where `learn` was called, that what a learner has learnt is not certified.

    Args:
        title: the learner and its subject, in words.
        rows: rows of the learner's history in this call.
        reason: why it is not certified, and what to try.
    """
    last = rows[-1] if rows else {}
    shown = ", ".join(f"{key} {last[key]:.3g}" for key in last if key not in ("evaluations", "seconds"))
    warnings.warn(
        f"{title} is not certified after {len(rows)} iterations (last: {shown}), and what it plays may lose much: "
        f"{reason}",
        ConvergenceWarning,
        stacklevel=3,
    )
