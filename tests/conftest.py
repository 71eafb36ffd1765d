"""Two cores are all there is: one torch thread per test process. Nothing of an earlier run counts as computed."""

import atexit
import os
import shutil
import tempfile

import torch

torch.set_num_threads(1)

if "HACONTROL_CACHE" not in os.environ:  # the workers of one run find what the first process has set
    os.environ["HACONTROL_CACHE"] = tempfile.mkdtemp(prefix="hacontrol-tests-")
    atexit.register(shutil.rmtree, os.environ["HACONTROL_CACHE"], ignore_errors=True)
