"""A suite of two problems and two agents, and its file."""

GOOD = """
name = "mine"
description = "For a test."
seeds = [0, 1]
[[problem]]
env = "LQR-v0"
[[problem]]
env = "LQR-v0"
label = "big"
parameters = { dimension = 3 }
[[agent]]
name = "npi"
hyperparameters = { hidden = [8, 8] }
[[agent]]
name = "analytic"
seeds = [0]
problems = ["big"]
"""


def written(tmp_path, text):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return str(path)
