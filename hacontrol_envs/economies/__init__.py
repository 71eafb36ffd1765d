"""Economies: many decision makers and the markets that they clear, a folder for each. Importing registers them."""

from typing import TYPE_CHECKING

from hacontrol_envs.economies.calibration import Calibration, calibrate
from hacontrol_envs.economies.economy import Economy, Equilibrium
from hacontrol_envs.economies.industry.economy import FirmIndustry
from hacontrol_envs.economies.industry.equilibrium import IndustryEquilibrium
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.economies.krusell_smith.planner import KrusellSmithPlanner
from hacontrol_envs.lazy import on_demand

__all__ = [
    "Calibration",
    "Economy",
    "Equilibrium",
    "FirmIndustry",
    "IndustryEquilibrium",
    "KrusellSmith",
    "KrusellSmithHousehold",
    "KrusellSmithPlanner",
    "calibrate",
]

if not TYPE_CHECKING:  # names of earlier versions
    __getattr__, __dir__ = on_demand(__name__, {})
