"""The conditions under which a worker computes, so that equal settings give equal bits on one machine."""

from __future__ import annotations

import torch


def prepared_device(place: str) -> torch.device:
    """Return the device at ``place`` (``cpu``, ``cuda:0``) after setting this process's arithmetic.

    One thread on a CPU, because a sum over two threads rounds differently. On CUDA, float32 means float32 (torch lets
    convolutions round to TF32 otherwise), and cuDNN may neither time its algorithms against each other nor use those
    that add in an order of their own.
    """
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device(place)
