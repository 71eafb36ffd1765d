"""Files that are forged to run code, in every way that a file of ours could name it; see `measure.fuzz`."""

from __future__ import annotations

import contextlib
import copy
import io
import json as json_text
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from hacontrol_agents import Learner
from hacontrol_agents.core import checkpoint
from hacontrol_benchmarks.cli import main as command_line
from hacontrol_benchmarks.measure.hostile_inputs import RESULT, SUITE, file_name, saved, sealed, toml
from hacontrol_benchmarks.records.suites import load_suite
from hacontrol_benchmarks.running.runner import check_tasks
from hacontrol_envs.errors import HacontrolError

SENTINEL = "HACONTROL_FUZZ_SENTINEL"
"""Environment variable that holds the path of the file which forged code writes to."""
EVIL = f"import os\nopen(os.environ[{SENTINEL!r}], 'a').write('x')\nclass Evil:\n    pass\n"
"""Python code that writes to that file when it is imported."""


def forgeries() -> Iterator[Callable[[Path], None]]:
    """Yield 200 functions, each of which forges a file that tries to run a command, and opens it."""
    places = ("env", "parameters", "hyperparameters", "state")
    keys = ("problem", "entry_point", "vector_entry_point", "id", "wrappers", "render_mode", "self", "kwargs", "policy")
    for agent in ("analytic", "random", "npi"):
        for place in places:
            yield from (_forged(agent, place, key, "evil_module:Evil") for key in keys)
    for key in ("agent", "problem"):
        yield from (
            _forged("random", key, "", word) for word in ("evil_module:Evil", "evil_module.Evil", "evil_module")
        )
    for key in keys:
        for value in ("evil_module:Evil", "evil_module", ["evil_module:Evil"]):
            yield partial(_open_suite, key=key, value=value)
            yield partial(_open_command, key=key, value=value)
    for agent in ("stable_baselines3:PPO", "stable_baselines3:SAC", "evil_module:Evil", "os:system", "torch:load"):
        yield partial(_open_run, agent=agent)
    for number in range(27):
        yield partial(_open_pickle, protocol=number)


def _forged(agent: str, place: str, key: str, value: str) -> Callable[[Path], None]:
    def opened(folder: Path) -> None:
        path = folder / "forged.safetensors"
        path.write_bytes(saved(agent, folder))
        tensors, record = checkpoint.read(path)
        checkpoint.write(path, tensors, {**record, place: {**record[place], key: value} if key else value})
        Learner.load(path)

    return opened


def _open_suite(folder: Path, key: str, value: Any) -> None:
    forged = copy.deepcopy(SUITE)
    forged["problem"][0]["parameters"][key] = value
    (folder / "suite.toml").write_text(toml(forged))
    check_tasks(load_suite(str(folder / "suite.toml")).tasks())


def _open_command(folder: Path, key: str, value: Any) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        if command_line(["compare", "LQR-v0", "--parameters", json_text.dumps({key: value})]) != 2:
            raise AssertionError("accepted")
    raise HacontrolError("refused by the command line")


def _open_run(folder: Path, agent: str) -> None:
    raw = copy.deepcopy(RESULT)
    raw["task"] |= {"agent": agent, "label": "mine"}
    (folder / file_name(raw)).write_bytes(sealed(raw))
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents" / file_name(raw).replace(".json", ".safetensors")).write_bytes(_bomb(4))
    with contextlib.redirect_stderr(io.StringIO()):
        code = command_line(["compare", "LQR-v0", "--agent", "mine", "--run", str(folder)])
    (folder / file_name(raw)).unlink()
    if code != 2:
        raise AssertionError("accepted")
    raise HacontrolError("refused by the command line")


def _open_pickle(folder: Path, protocol: int) -> None:
    """A pickle in a file's place, bare, behind a header or inside a tensor's bytes."""
    path, bomb = folder / "bomb.safetensors", _bomb(protocol % 6)
    path.write_bytes((bomb, b"PK\x03\x04" + bomb, len(bomb).to_bytes(8, "little") + bomb)[protocol % 3])
    Learner.load(path)


def _bomb(protocol: int) -> bytes:
    """What `pickle.dumps` makes of an object whose `__reduce__` is (exec, (EVIL,)), at protocol 0 or a later one."""
    start = b"" if protocol < 2 else b"\x80" + bytes([protocol])
    text = EVIL.encode("unicode_escape")
    return start + b"cbuiltins\nexec\n(V" + text + b"\ntR."
