"""Picture: what `render` draws of a problem's states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.domain import Domain


@final
@dataclass(frozen=True, eq=False)
class LawPicture:
    """A distribution over increasing nodes that is part of the state, drawn as a histogram."""

    nodes: Floats
    """Increasing nodes, (n,)."""
    label: str
    """What is measured along the nodes, with its unit."""
    masses: Callable[[Floats], Floats]
    """Function from a state (n,) to masses by group and node, (k, n), that sum to one."""
    groups: tuple[str, ...]
    """Names of the k groups."""
    usual: Floats
    """Masses by node, (n,), that the histogram is compared with."""
    usual_name: str
    """Name of these masses in the title."""
    own: Callable[[Floats], float] | None = None
    """Function from a state (n,) to the learner's own place along the nodes; None where it has none."""
    action_label: str = ""
    """What actions are, where they are numbers by group and node, (k n,); "" where they are not."""


@final
@dataclass(frozen=True, eq=False)
class Picture:
    """Components of the state that are drawn over time and, where one is part of the state, the distribution."""

    states: Domain
    """Names, units and scales of the k components that are drawn."""
    components: Callable[[Floats], Floats]
    """Function from states (..., n) to these components (..., k)."""
    law: LawPicture | None = None
    """The distribution that is part of the state; None where there is none."""
