"""Batches that do not fit into memory, in two ways. Either way eps, too, is that of the whole batch.

A `backward` before `step` would not do: the closure has to compute the whole gradient, for it is called at w + eps.
"""

from functools import partial

import torch
from torch.nn.functional import cross_entropy

from flatmin.optim import SAM


def train(model, batches, micro_batch=32):
    """A batch is there as a whole: the optimizer calls the closure on parts of it."""
    optimizer = SAM(model, torch.optim.SGD, rho=0.05, micro_batch=micro_batch, lr=0.1, momentum=0.9)

    def closure(inputs, targets, part):
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs[part]), targets[part])
        loss.backward()
        return loss

    return [optimizer.step(partial(closure, *batch), size=len(batch[0])).item() for batch in batches]


def train_on_lists(model, batches):
    """A batch is a list of micro-batches of one size: the closure goes through them."""
    optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

    def closure(batch):
        optimizer.zero_grad()
        losses = []
        for inputs, targets in batch:
            loss = cross_entropy(model(inputs), targets) / len(batch)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    return [optimizer.step(partial(closure, batch)).item() for batch in batches]
