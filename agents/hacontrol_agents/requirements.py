"""Raise ModuleNotFoundError, which says how to install it, where a package that all modules need is missing."""

import importlib.util

MISSING = [
    name for name in ("torch", "safetensors", "stable_baselines3", "rich") if importlib.util.find_spec(name) is None
]
if MISSING:
    raise ModuleNotFoundError(f"hacontrol_agents needs {', '.join(MISSING)}: pip install 'hacontrol[agents]'")
