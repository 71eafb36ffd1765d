"""What L^a V costs, in forward passes of the same network on the same rows.

Each ratio is the median over repeats of (time of L^a V) / (time of a forward pass), the two timed one after the other,
so that a machine that slows down slows both. Forward: MLP 3 x 64 tanh under torch.no_grad(). One thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from hacontrol_agents.autodiff import apply_generator
from hacontrol_agents.networks import MLP

TARGETS = {(2, 1): (5.0, 16.0), (10, 1): (5.0, 16.0), (10, 10): (20.0, 60.0), (100, 1): (6.0, 18.0)}
"""(n, m) -> the most forwards allowed without and with the parameter gradient."""

CALLS = 5


def measure(
    repeats: int = 30, rows: int = 1024, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
) -> list[dict[str, Any]]:
    """One row per (dtype, n, m): forwards without and with parameter gradient, targets, and microseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_case(n, m, rows, dtype, repeats) for dtype in dtypes for n, m in TARGETS]
    finally:
        torch.set_num_threads(threads)


def _case(n: int, m: int, rows: int, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
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
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "n": n,
        "m": m,
        "forward_us": 1e6 * statistics.median(t[0] for t in times),
        "plain": statistics.median(t[1] / t[0] for t in times),
        "gradient": statistics.median(t[3] / t[2] for t in times),
        "target_plain": TARGETS[n, m][0],
        "target_gradient": TARGETS[n, m][1],
    }


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    """Print the table."""
    print(
        f"{'dtype':8} {'n':>4} {'m':>3} {'forward':>9}   {'L^a V':>6} {'target':>6}   {'+ gradient':>10} {'target':>6}"
    )
    for r in measure():
        print(
            f"{r['dtype']:8} {r['n']:4} {r['m']:3} {r['forward_us']:6.0f} us   {r['plain']:6.2f} {r['target_plain']:6g}"
            f"   {r['gradient']:10.2f} {r['target_gradient']:6g}"
        )


if __name__ == "__main__":
    main()
