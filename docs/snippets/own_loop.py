"""One's own loop: `step` calls the closure at w and at w + eps, and then steps along the second gradient."""

from functools import partial

import torch
from torch.nn.functional import cross_entropy

from flatmin.optim import SAM


def train(model, batches):
    """Return the loss of every batch, at the weights before its step."""
    optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

    def closure(inputs, targets):
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    return [optimizer.step(partial(closure, *batch)).item() for batch in batches]
