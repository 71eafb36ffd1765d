"""What pip installs is whole: the wheel, and the wheel of the source distribution, work far from the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "hacontrol_envs": ROOT / "hacontrol_envs",
    "hacontrol_agents": ROOT / "agents" / "hacontrol_agents",
    "hacontrol_benchmarks": ROOT / "benchmarks" / "hacontrol_benchmarks",
}
OTHERS = [f"3.{minor}" for minor in range(10, 15) if minor != sys.version_info.minor]

FIRST_USE = """
import json
import gymnasium as gym, hacontrol_envs
env = gym.make("Merton-v0", risk_aversion=3.0)
env.reset(seed=0)
reward = float(env.step(env.action_space.sample())[1])
solution = env.unwrapped.problem.solution()
print(json.dumps({"reward": reward, "risky": float(solution.policy(0.0, env.unwrapped.state)[0]),
    "files": [hacontrol_envs.__file__]}))
"""
EVERYTHING = """
import json, hacontrol_agents, hacontrol_benchmarks, hacontrol_envs
from hacontrol_benchmarks import load_suite, suite_names
from importlib.metadata import version
packages = hacontrol_envs, hacontrol_agents, hacontrol_benchmarks
print(json.dumps({"files": [package.__file__ for package in packages], "version": version("hacontrol"),
    "tasks": {name: len(load_suite(name).tasks()) for name in suite_names()}}))
"""


def run(*command: object, folder: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False, env=bare())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bare() -> dict[str, str]:
    """The environment without what would lead Python to the checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def build(source: Path, target: Path, *more: str) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-d", target, *more, folder=source)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of the checkout, and that of its unpacked source distribution."""
    folder = tmp_path_factory.mktemp("distributions")
    build(ROOT, folder)
    (sources,) = folder.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    build(unpacked, folder / "again", "-t", "wheel")
    return {"wheel": next(folder.glob("*.whl")), "sdist": next((folder / "again").glob("*.whl"))}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def make_environment(python: str, folder: Path) -> tuple[Path, list[str]]:
    """The Python of a new environment of `python`, and the command that installs into it."""
    run(python, "-m", "venv", "--without-pip", "environment", folder=folder)
    inside = folder / "environment" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    return inside, [sys.executable, "-m", "pip", "--python", str(inside), "install", "-q"]


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The Python of an environment that has the wheel itself, and everything else from the one that runs the tests.

    The path in the .pth file is searched for packages, but .pth files there, such as that of an editable install of
    the checkout, are not read.
    """
    python, pip = make_environment(sys.executable, tmp_path_factory.mktemp(request.param))
    run(*pip, "--no-deps", "--no-index", wheels[request.param], folder=python.parent)
    (site,) = python.parents[1].glob("Lib/site-packages" if sys.platform == "win32" else "lib/*/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    return python


def test_both_wheels_have_the_same_contents(wheels: dict[str, Path]) -> None:
    assert contents(wheels["wheel"]) == contents(wheels["sdist"])


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheels: dict[str, Path]) -> None:
    expected = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", "pages"} & set(path.parts)  # the package makes its pages itself
    }
    found = {name for name in contents(wheels["wheel"]) if ".dist-info/" not in name}
    assert found == expected
    assert {f"{name}/py.typed" for name in PACKAGES} <= found
    assert "hacontrol_benchmarks/templates/report.html" in found
    assert "hacontrol_benchmarks/suites/quick.toml" in found


def test_the_wheel_says_what_it_needs(wheels: dict[str, Path]) -> None:
    (about,) = (data.decode() for name, data in contents(wheels["wheel"]).items() if name.endswith("/METADATA"))
    needs = re.findall(r"(?m)^Requires-Dist: ([\w-]+)[^;\n]*$", about)
    assert set(needs) == {"gymnasium", "numpy", "scipy", "array-api-compat", "numba"}
    assert set(re.findall(r"(?m)^Provides-Extra: (.*)$", about)) == {"agents", "benchmarks", "dev"}
    assert "License-File: LICENSE" in about


@pytest.mark.parametrize("installed", ["wheel", "sdist"], indirect=True)
def test_the_packages_are_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(installed, "-c", EVERYTHING, folder=tmp_path))
    assert all(Path(file).is_relative_to(installed.parents[1]) for file in found["files"])
    assert found["version"] == re.findall(r'(?m)^version = "(.*)"', (ROOT / "pyproject.toml").read_text())[0]
    assert set(found["tasks"]) == {path.stem for path in PACKAGES["hacontrol_benchmarks"].glob("suites/*.toml")}
    assert all(found["tasks"].values())


@pytest.mark.parametrize("installed", ["wheel"], indirect=True)
def test_an_environment_is_made_and_its_optimum_known(installed: Path, tmp_path: Path) -> None:
    """The risky fraction is (.08 - .03) / (3 * .2^2), by Merton's formula at the default market."""
    used(run(installed, "-c", FIRST_USE, folder=tmp_path), installed)


def used(printed: str, python: Path) -> None:
    found = json.loads(printed)
    assert all(Path(file).is_relative_to(python.parents[1]) for file in found["files"])
    assert found["risky"] == pytest.approx(0.05 / (3 * 0.2**2), rel=1e-12)


@pytest.mark.parametrize("installed", ["wheel"], indirect=True)
def test_the_command_lists_what_there_is(installed: Path, tmp_path: Path) -> None:
    said = run(installed.with_name("hacontrol"), "list", folder=tmp_path)
    assert all(name in said for name in ("Merton-v0", "FirmIndustry", "npi", "quick"))


@pytest.mark.parametrize("version", OTHERS)
def test_environments_work_on_other_pythons(version: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    """With what the wheel itself asks for and nothing else, so that no extra is needed without being named."""
    if not (python := shutil.which(f"python{version}")):
        pytest.skip(f"python{version} is not on PATH")
    if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} does not run")
    inside, pip = make_environment(python, tmp_path)
    command = [*pip, "--only-binary", ":all:", str(wheels["wheel"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare())
    if "No matching distribution found" in done.stderr:
        pytest.skip(f"Python {version}: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    used(run(inside, "-c", FIRST_USE, folder=tmp_path), inside)
