"""Time L^a V, in forward passes of the same network on the same rows.

Each ratio is the median over repeats of (time of L^a V) / (time of a forward pass), the two timed one after the other,
so that a machine that slows down slows both. Forward: MLP 3 x 64 tanh under torch.no_grad(). One thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

from hacontrol_agents.learning.autodiff import apply_generator
from hacontrol_agents.learning.networks import MLP
from hacontrol_benchmarks.measure import measured

TARGETS = {(2, 1): (5.0, 16.0), (10, 1): (5.0, 16.0), (10, 10): (20.0, 60.0), (100, 1): (6.0, 18.0)}
"""Most forward passes without and with the parameter gradient, by dimensions (n, m) of state and noise."""

CALLS = 5
"""Number of calls that are timed together."""


def measure(
    repeats: int = 30, rows: int = 1024, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
) -> list[measured.Row]:
    """Return one row per (dtype, n, m): forward passes without and with parameter gradient, targets, and microseconds.

    Args:
        repeats: number of timed repeats.
        rows: number of rows of a batch.
        dtypes: floating-point types of the network.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_case(n, m, rows, dtype, repeats) for dtype in dtypes for n, m in TARGETS]
    finally:
        torch.set_num_threads(threads)


def _case(n: int, m: int, rows: int, dtype: torch.dtype, repeats: int) -> measured.Row:
    rng = torch.Generator().manual_seed(0)
    network = MLP(n, (64, 64, 64), activation="tanh", generator=rng, dtype=dtype)
    z, drift, columns = (torch.randn(rows, n, *k, generator=rng, dtype=dtype) for k in ((), (), (m,)))

    @torch.no_grad()
    def forward() -> None:
        network(z)

    @torch.no_grad()
    def plain() -> None:
        apply_generator(network, z, drift, columns)

    def with_gradient() -> None:
        network.zero_grad()
        apply_generator(network, z, drift, columns)[1].sum().backward()  # type: ignore[no-untyped-call]

    times = [[_seconds(f) for f in (forward, plain, forward, with_gradient)] for _ in range(repeats + 2)][2:]
    plain_ratio, gradient_ratio = (statistics.median(t[k] / t[k - 1] for t in times) for k in (1, 3))
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "n": n,
        "m": m,
        "forward_us": 1e6 * statistics.median(t[0] for t in times),
        "plain": plain_ratio,
        "gradient": gradient_ratio,
        "target_plain": TARGETS[n, m][0],
        "target_gradient": TARGETS[n, m][1],
        "met": plain_ratio <= TARGETS[n, m][0] and gradient_ratio <= TARGETS[n, m][1],
    }


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


COLUMNS = {
    "dtype": "{dtype}",
    "n": "{n}",
    "m": "{m}",
    "forward, us": "{forward_us:.0f}",
    "L^a V": "{plain:.2f}",
    "at most": "{target_plain:g}",
    "with gradient": "{gradient:.2f}",
    "at most ": "{target_gradient:g}",
}


def main(repeats: int = 30, rows: int = 1024, json: Path | None = None) -> int:
    """Measure how long L^a V takes, in forward passes.

    Args:
        repeats: number of timed repeats.
        rows: number of rows of a batch.
        json: a file to write the figures to.
    """
    settings = {"repeats": repeats, "rows": rows, "network": "MLP 3 x 64 tanh"}
    return measured.report("measure.generator", measure(repeats, rows), COLUMNS, settings, json)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
