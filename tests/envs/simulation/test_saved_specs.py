"""Specs of Gymnasium that were saved before modules moved still make their environments."""

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import hacontrol_envs

MOVED = {
    "KrusellSmith-v0": "hacontrol_envs.problems.krusell_smith:KrusellSmithHousehold",
    "KrusellSmithCloud-v0": "hacontrol_envs.problems.krusell_smith_cloud:KrusellSmithCloud",
    "LQR-v0": "hacontrol_envs.lqr:LQR",
}
"""Ids, and where their problems once were."""


@pytest.mark.parametrize("id", MOVED)
def test_a_saved_spec_finds_its_problem(id):
    parameters = {"asset_nodes": 20, "asset_max": 200.0} if id.startswith("Krusell") else {}
    saved = gym.make(id, **parameters).spec.to_json()
    now = gym.spec(id).kwargs["problem"]
    assert f'"{now}"' in saved
    old = EnvSpec.from_json(saved.replace(now, MOVED[id]))
    assert old.entry_point == "hacontrol_envs.env:make_env"
    made = gym.make(old).unwrapped.problem
    assert type(made).__name__ == now.split(":")[1]
    assert type(made).__module__ == now.split(":")[0]


def test_a_class_that_was_never_registered_is_not_found():
    spec = EnvSpec.from_json(gym.make("LQR-v0").spec.to_json())
    spec.kwargs["problem"] = "hacontrol_envs.nowhere:Nothing"
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        gym.make(spec)


def test_economies_are_registered_by_a_public_call():
    assert {"FirmIndustry", "KrusellSmith"} <= set(hacontrol_envs.registered_economies())
    assert hacontrol_envs.register_economy
