"""Threads, and a cache of solutions that lives as long as the run: stale solutions must not pass tests."""

import os
import shutil
import tempfile

import torch

torch.set_num_threads(1)

_OURS = "HACONTROL_CACHE" not in os.environ  # xdist's workers find the folder of the process that started them
if _OURS:
    os.environ["HACONTROL_CACHE"] = tempfile.mkdtemp(prefix="hacontrol-")


def pytest_unconfigure(config):
    if _OURS:
        shutil.rmtree(os.environ["HACONTROL_CACHE"], ignore_errors=True)
