"""Krusell-Smith economies small enough for tests, each solved once per process."""

from __future__ import annotations

import functools

from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

NODES = 200


@functools.cache
def economy(calibration: str) -> KrusellSmith:
    """A calibration on fewer nodes than by default."""
    return KrusellSmith(calibration, asset_nodes=NODES)


@functools.cache
def tiny(calibration: str = "jedc") -> KrusellSmith:
    """On so few nodes that its reference solution takes a second, and is worth little."""
    return KrusellSmith(calibration, asset_nodes=60)
