"""Two cores are all there is: one torch thread per test process."""

import torch

torch.set_num_threads(1)
