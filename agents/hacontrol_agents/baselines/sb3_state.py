"""State of one of Stable-Baselines3's algorithms, as tensors and JSON, from which learning goes on bitwise.

SB3's own files hold networks and optimisers, in pickle. Left out there and kept here: the environment's state, the last
observation, the reward's running scale, the replay buffer and every random state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from hacontrol_envs.arrays import Array

RandomState = dict[str, Any]
"""Random states of torch and NumPy by name."""
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""Arrays of SB3's replay buffer that are saved."""


@contextlib.contextmanager
def randomness(state: RandomState) -> Iterator[None]:
    """Let SB3 draw from `state` in place of the global random states, which are left as they were."""
    outside = global_randomness()
    set_global_randomness(state)
    try:
        yield
    finally:
        state.update(global_randomness())
        set_global_randomness(outside)


def global_randomness() -> RandomState:
    """Return the global random states from which SB3 draws: torch's and NumPy's."""
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(legacy=False)}


def set_global_randomness(state: RandomState) -> None:
    """Set the global random states of torch and NumPy; an empty state changes nothing."""
    if state:
        torch.set_rng_state(state["torch"])
        np.random.set_state(state["numpy"])


def tensors_of(model: Any, random: RandomState) -> dict[str, Tensor]:
    """Return copies, by name, of every tensor and array of the model between two rollouts."""
    tensors = {f"{owner}/{name}": tensor for owner, name, tensor in _learnt(model)}
    if model._last_obs is not None:
        arrays = {**_surroundings(model), **_replay(model), "random/numpy": random["numpy"]["state"]["key"]}
        tensors |= {name: _tensor(array) for name, array in arrays.items()}
        tensors["random/torch"] = random["torch"]
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def record_of(model: Any, random: RandomState) -> dict[str, Any]:
    """Return the model's counters and random states that are no tensors, as JSON can hold them."""
    numpy = random["numpy"]
    return {
        "updates": model._n_updates,
        "random": {"pos": int(numpy["state"]["pos"]), "has_gauss": numpy["has_gauss"], "gauss": numpy["gauss"]},
        "actions": model.action_space.np_random.bit_generator.state,
    }


def restore(model: Any, random: RandomState, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Bring a model that was built with the same arguments to the state that `tensors_of` and `record_of` returned.

    Args:
        model: one of SB3's algorithms.
        random: the random states, which are replaced.
        tensors: what `tensors_of` returned.
        record: what `record_of` returned.
    """
    parameters = model.get_parameters()
    for owner, state in parameters.items():
        held = {
            name.removeprefix(f"{owner}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{owner}/")
        }
        if "optimizer" in owner:
            state["state"] = _slots(held)
        else:
            parameters[owner] = held
    model.set_parameters(parameters)
    for name in model._get_torch_save_params()[1]:
        getattr(model, name).data.copy_(tensors[f"variable/{name}"])
    model._n_updates = record["updates"]
    if "random/torch" in tensors:
        _restore_surroundings(model, {name: tensor.cpu().numpy() for name, tensor in tensors.items()})
        state = {"key": tensors["random/numpy"].cpu().numpy().astype(np.uint32), "pos": record["random"]["pos"]}
        numpy_state = {"bit_generator": "MT19937", "state": state}
        numpy_state |= {name: record["random"][name] for name in ("has_gauss", "gauss")}
        random.update(torch=tensors["random/torch"].cpu(), numpy=numpy_state)
        model.action_space.np_random.bit_generator.state = record["actions"]


def _learnt(model: Any) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (owner, name, tensor) of networks, optimisers and SAC's entropy coefficient."""
    for owner, state in model.get_parameters().items():
        if "optimizer" in owner:
            for index, slots in state["state"].items():
                yield from ((owner, f"{index}/{slot}", tensor) for slot, tensor in slots.items())
        else:
            yield from ((owner, name, tensor) for name, tensor in state.items())
    yield from (("variable", name, getattr(model, name)) for name in model._get_torch_save_params()[1])


def _slots(held: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return an optimiser's state by parameter and slot, from names such as "3/exp_avg"."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in held.items():
        index, _, slot = name.partition("/")
        found.setdefault(int(index), {})[slot] = tensor
    return found


def _surroundings(model: Any) -> dict[str, Array]:
    """Return the arrays of the environment, the last observation and the running scale of rewards."""
    env: VecNormalize = model.env
    scale = np.array([env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count], dtype=np.float64)
    native: Any = env.venv
    return {
        **{f"env/{name}": array for name, array in native.env.get_state().items()},
        "last/observation": model._last_obs,
        "last/starts": model._last_episode_starts,
        "reward/scale": scale,
        "reward/returns": env.returns,
    }


def _restore_surroundings(model: Any, arrays: dict[str, Array]) -> None:
    env: VecNormalize = model.env
    native: Any = env.venv
    held = native.env.get_state()
    native.env.set_state({name: arrays[f"env/{name}"].view(array.dtype) for name, array in held.items()})
    model._last_obs = model._last_original_obs = arrays["last/observation"].copy()
    model._last_episode_starts = arrays["last/starts"].copy()
    env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count = arrays["reward/scale"]
    env.returns = arrays["reward/returns"].copy()
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        size, buffer.pos, full = (int(number) for number in arrays["replay/place"])
        buffer.full = bool(full)
        for name in REPLAY:
            getattr(buffer, name)[:size] = arrays[f"replay/{name}"]


def _replay(model: Any) -> dict[str, Array]:
    """Return the filled part of the replay buffer, and the place of the next transition."""
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return {}
    size = buffer.buffer_size if buffer.full else buffer.pos
    place = np.array([size, buffer.pos, buffer.full], dtype=np.int64)
    return {"replay/place": place, **{f"replay/{name}": getattr(buffer, name)[:size] for name in REPLAY}}


def _tensor(array: Array) -> Tensor:
    """Return an array as a tensor; unsigned integers become signed ones of the same bits."""
    array = np.array(array)
    return torch.from_numpy(array.view(array.dtype.str.replace("u", "i")) if array.dtype.kind == "u" else array)
