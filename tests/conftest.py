"""Two cores are all there is: one torch thread per test process. Nothing of an earlier run counts as computed."""

import atexit
import os
import shutil
import tempfile

import pytest
import torch

torch.set_num_threads(1)

if "HACONTROL_CACHE" not in os.environ:  # the workers of one run find what the first process has set
    os.environ["HACONTROL_CACHE"] = tempfile.mkdtemp(prefix="hacontrol-tests-")
    atexit.register(shutil.rmtree, os.environ["HACONTROL_CACHE"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker half of the tests in their order, and what the other has left when one is done.

    So the tests of a file run in one process, and what they share is computed once.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
