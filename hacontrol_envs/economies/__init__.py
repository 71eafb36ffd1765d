"""Many decision makers and what clears their markets: one folder for each. Importing registers them."""

from hacontrol_envs.economies.industry import economy as industry
from hacontrol_envs.economies.krusell_smith import economy as krusell_smith
from hacontrol_envs.economies.krusell_smith import household, planner

__all__ = ["household", "industry", "krusell_smith", "planner"]
