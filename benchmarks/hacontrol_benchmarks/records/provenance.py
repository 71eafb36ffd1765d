"""Provenance of a result: the code and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version of hacontrol that made a result."""

    version: str
    """Version of the installed package; "source" where it is not installed."""
    commit: str | None = None
    """Git commit; None where it did not run from a checkout."""
    modified: bool = False
    """Whether that checkout had uncommitted changes."""

    def __str__(self) -> str:
        where = f" at {self.commit[:10]}" if self.commit else ""
        return f"hacontrol {self.version}{where}{' with uncommitted changes' if self.modified else ''}"


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine that a result was made on."""

    processor: str
    """Name of the processor."""
    cores: int
    """Number of cores that the process may use."""
    python: str
    """Version of Python."""
    packages: dict[str, str]
    """Versions of the installed libraries that matter, by name."""
    threads: int | None = None
    """Number of threads that the task computed with; None in records of before it was fixed."""

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        threads = "" if self.threads is None else f", {self.threads} thread{'s' * (self.threads != 1)} a task"
        return f"{self.processor}, {self.cores} cores{threads}, Python {self.python}, {packages}"


@cache
def code() -> Code:
    """Return the version of hacontrol that is running."""
    try:
        version = metadata.version("hacontrol")
    except metadata.PackageNotFoundError:
        version = "source"
    if not (checkout := _checkout()):
        return Code(version)
    return Code(version, _git(checkout, "rev-parse", "HEAD"), bool(_git(checkout, "status", "--porcelain")))


@cache
def machine() -> Machine:
    """Return the machine that this process runs on."""
    names = ("numpy", "scipy", "torch", "gymnasium", "stable-baselines3")
    packages = {name: metadata.version(name) for name in names if _installed(name)}
    return Machine(_processor(), cores(), platform.python_version(), packages)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checkout() -> Path | None:
    """Return the git checkout that this file is tracked in, if any."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / ".git").exists() and (root / "hacontrol_envs").is_dir() else None


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
