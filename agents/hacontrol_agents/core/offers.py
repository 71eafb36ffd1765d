"""Names of what agents offer besides a policy: declared by them, never found by calling."""

from __future__ import annotations

from typing import Any

OFFERED = ("value", "jet", "rate")
"""Names of the methods, besides `policy`, that an agent may offer."""


def offered(agent: Any) -> frozenset[str]:
    """Tell which of `value`, `jet` and `rate` an agent has: what it declares, or else the methods that it has."""
    said: frozenset[str] | None = getattr(agent, "offers", None)
    return frozenset(name for name in OFFERED if callable(getattr(agent, name, None))) if said is None else said
