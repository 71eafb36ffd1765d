"""Whether figures, tensors and records are finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def first_not_finite(values: Mapping[str, Any]) -> str | None:
    """The name of the first entry that holds a number that is not finite, with what it holds; None if there is none.

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
    elif isinstance(value, torch.Tensor):
        if (value.is_floating_point() or value.is_complex()) and not bool(torch.isfinite(value).all()):
            yield f"{name} ({int((~torch.isfinite(value)).sum())} of {value.numel()} entries)"
    elif isinstance(value, (float, np.ndarray, np.generic)):
        found = np.asarray(value)
        if found.dtype.kind in "fc" and not np.isfinite(found).all():
            count = int((~np.isfinite(found)).sum())
            yield f"{name} ({count} of {found.size} entries)" if found.ndim else f"{name} = {value}"
