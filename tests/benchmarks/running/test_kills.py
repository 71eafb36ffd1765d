"""Training that is killed twice ends with the weights of training that was not; an altered file is refused."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hacontrol_agents.core import checkpoint as files
from hacontrol_benchmarks.measure import kills as measure_kills
from hacontrol_benchmarks.running.killed import Run, train

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""

TASK = {
    "env": "Merton-v0",
    "agent": "npi",
    "seed": 1,
    "budget": None,
    "hyperparameters": {"iterations": 3, "visits": 32, "hidden": (8,)},
}


@pytest.mark.slow
def test_two_kills_change_nothing_and_altered_files_are_refused():
    killed, _, altered = measure_kills.measure(TASK, kills=2, flips=60)
    assert killed["kills"] == 2
    assert killed["right"] == killed["of"] >= 1
    assert altered["right"] == altered["of"] == 60


@pytest.mark.slow
def test_a_change_of_one_bit_is_a_difference(tmp_path):
    train(TASK, tmp_path / "checkpoint", tmp_path / "one")
    assert measure_kills.same(tmp_path / "one", tmp_path / "one")
    train({**TASK, "seed": 2}, tmp_path / "checkpoint 2", tmp_path / "other")
    assert not measure_kills.same(tmp_path / "one", tmp_path / "other")


def test_a_file_that_anyone_could_write_is_counted_as_accepted_only_if_it_loads(tmp_path):
    save_file({"empty": torch.zeros(0)}, tmp_path / "foreign")
    rng = np.random.default_rng(0)
    assert measure_kills.refused(tmp_path / "foreign", 4, rng) == 4


@pytest.mark.slow
def test_a_child_that_fails_is_an_error(tmp_path):
    run = Run({**TASK, "hyperparameters": {"no such thing": 1}}, tmp_path)
    with pytest.raises(RuntimeError, match="exit code 1"):
        run.through()


def test_the_write_of_a_checkpoint_is_seen(tmp_path, monkeypatch):
    run, seen = Run(TASK, tmp_path), []
    replace = os.replace

    def watched(source, target):
        seen.append(len(run._being_written()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    files.write(tmp_path / "checkpoint", {"empty": torch.zeros(0)}, {})
    assert seen == [1]
    assert run._being_written() == []
