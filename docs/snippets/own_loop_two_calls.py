"""One's own loop with the two halves of a step in sight, where a closure does not fit.

`ascend` takes the weights to w + eps. After that, `step` without a closure is `descend`: back to w, then the step.
Dropout draws other masks in the second pass, which a closure would spare it.
"""

import torch
from torch.nn.functional import cross_entropy

from flatmin.optim import SAM


def train(model, batches):
    """Return the loss of every batch, at the weights before its step."""
    optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        if optimizer.ascend():
            optimizer.zero_grad()
            cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
