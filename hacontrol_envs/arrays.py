"""The little array code that lets one definition of a coefficient run on NumPy, torch or any array-API library.

On NumPy the products below give each row a result that does not depend, to the last bit, on how many other rows are
in the batch. BLAS does not promise that, and a vector environment whose row i equals the single environment needs it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, to_device
from numpy.typing import NDArray

Array: TypeAlias = Any
"""An array of NumPy, torch or any other array-API library, with leading batch axes."""

Floats: TypeAlias = NDArray[np.float64]
"""A NumPy array of float64."""


def namespace(x: Array) -> Any:
    """Return the array-API namespace that `x` belongs to."""
    return np if type(x) is np.ndarray else array_namespace(x)


def like(constant: Floats | float, x: Array) -> Array:
    """Return a constant of the problem as an array of the library, precision and device of `x`."""
    if type(x) is np.ndarray:
        return constant
    xp = array_namespace(x)
    # A copy: torch warns when it is handed memory that may not be written, as a problem's matrices may not.
    return xp.asarray(np.array(constant), dtype=x.dtype, device=x.device)


def to_numpy(x: Array) -> Floats:
    """Return an array of any library as a NumPy array of float64."""
    return np.asarray(x if type(x) is np.ndarray else to_device(x, "cpu"), dtype=np.float64)


def dot(x: Array, y: Array) -> Array:
    """Return the sum of x_j y_j over the last axis, (..., n) x (..., n) -> (...)."""
    if type(x) is not np.ndarray:
        return array_namespace(x).sum(x * y, axis=-1)
    total = x[..., 0] * y[..., 0]
    for j in range(1, x.shape[-1]):
        total = total + x[..., j] * y[..., j]
    return total


def matvec(matrix: Floats, x: Array) -> Array:
    """Return M x for every row, (k, n) x (..., n) -> (..., k)."""
    if matrix.shape == (1, 1):
        return x * float(matrix[0, 0])
    if type(x) is np.ndarray:
        return np.einsum("kn,...n->...k", matrix, x)
    return x @ like(matrix.T, x)


def matvecs(matrices: Array, x: Array) -> Array:
    """Return M x with a matrix for each row, or one for all, (..., k, n) x (..., n) -> (..., k), all of one library."""
    return namespace(x).matmul(matrices, x[..., None])[..., 0]


def quadratic(matrix: Floats, x: Array) -> Array:
    """Return x' M x for every row, (n, n) x (..., n) -> (...)."""
    return dot(x, matvec(matrix, x))


def broadcast_time(t: Array, x: Array) -> Array:
    """Return time as an array of shape x.shape[:-1], in the library of `x`."""
    xp = namespace(x)
    t = xp.asarray(t, dtype=x.dtype) if type(x) is np.ndarray else xp.asarray(t, dtype=x.dtype, device=x.device)
    return xp.broadcast_to(t, x.shape[:-1])
