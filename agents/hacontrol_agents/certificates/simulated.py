"""Simulated: what paths say of a policy's value, with the errors of noise and of time steps."""

from __future__ import annotations

from typing import NamedTuple

MOST_PATHS = 4096
"""Most paths from each start."""


class Simulated(NamedTuple):
    """What paths say of a policy's value, in units of reward."""

    mean: float
    """Estimate, extrapolated in the time step."""
    standard_error: float
    """Its standard error."""
    noise: float
    """Standard error times the quantile of the confidence."""
    step: float
    """What halving the time step changed."""
    tail: float
    """What paths may earn beyond the simulated time."""
    region: float
    """What paths that left the region may earn there."""

    @property
    def spread(self) -> float:
        """All that the estimate may be off by."""
        return self.standard_error + self.step + self.tail + self.region

    @property
    def lower(self) -> float:
        """The estimate less all that it may be off by."""
        return self.mean - self.noise - self.step - self.tail - self.region
