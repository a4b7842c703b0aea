"""Lightning with automatic optimization: its closure runs both passes, so a module just returns the optimizer.

Clip with the optimizer's `clip_norm`, for `gradient_clip_val` clips the clean gradient too. Precision is float32 or
bf16-mixed. Not supported: 16-mixed, which gives the optimizer no closure; `accumulate_grad_batches`, whose last closure
alone would be run again; methods that look at parts of the batch.
"""

import torch
from lightning import LightningModule
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from flatmin.optim import SAM


class Classifier(LightningModule):
    """Trains a network with SAM around SGD."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def training_step(self, batch, _):
        """Runs at w, and again at w + eps; the loss at w is the one to log."""
        inputs, targets = batch
        loss = cross_entropy(self.network(inputs), targets)
        if not self.optimizers().perturbed:
            self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        """The schedule is one by epochs."""
        optimizer = SAM(self, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)]
