"""Where a result comes from: the code and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version of hacontrol that ran."""

    version: str
    """Of the installed package; "source" where it is not installed."""
    commit: str | None = None
    """Git commit, where it ran from a checkout."""
    modified: bool = False
    """Whether that checkout had uncommitted changes."""

    def __str__(self) -> str:
        where = f" at {self.commit[:10]}" if self.commit else ""
        return f"hacontrol {self.version}{where}{' with uncommitted changes' if self.modified else ''}"


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it ran on."""

    processor: str
    cores: int
    """That this process may use."""
    python: str
    packages: dict[str, str]
    threads: int | None = None
    """That the task computed with; None in records of before it was fixed."""

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        threads = "" if self.threads is None else f", {self.threads} thread{'s' * (self.threads != 1)} a task"
        return f"{self.processor}, {self.cores} cores{threads}, Python {self.python}, {packages}"


@cache
def code() -> Code:
    """This version of hacontrol."""
    try:
        version = metadata.version("hacontrol")
    except metadata.PackageNotFoundError:
        version = "source"
    if not (checkout := _checkout()):
        return Code(version)
    return Code(version, _git(checkout, "rev-parse", "HEAD"), bool(_git(checkout, "status", "--porcelain")))


@cache
def machine() -> Machine:
    """This machine."""
    names = ("numpy", "scipy", "torch", "gymnasium", "stable-baselines3")
    packages = {name: metadata.version(name) for name in names if _installed(name)}
    return Machine(_processor(), cores(), platform.python_version(), packages)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checkout() -> Path | None:
    """The git checkout that this file is tracked in, if any."""
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
