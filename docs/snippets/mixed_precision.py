"""fp16 with a GradScaler: the optimizer unscales both gradients and skips overflows, the loop updates the scale.

There is no `scaler.step`; for bf16 there is no scaler. Autocast goes around the forward pass alone, in the closure.
"""

from functools import partial

import torch
from torch.nn.functional import cross_entropy

from flatmin.optim import SAM


def train(model, batches, device="cuda"):
    """Return the loss of every batch, at the weights before its step."""
    scaler = torch.amp.GradScaler(device)
    optimizer = SAM(model, torch.optim.SGD, rho=0.05, scaler=scaler, lr=0.1, momentum=0.9)

    def closure(inputs, targets):
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16):
            loss = cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        return loss

    losses = []
    for batch in batches:
        losses.append(optimizer.step(partial(closure, *batch)).item())
        scaler.update()
    return losses
