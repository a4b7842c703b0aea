"""Hugging Face: a `Trainer` that makes both passes, and whose own `optimizer.step()` is then the descent.

Its `max_grad_norm` clips the gradient at w + eps alone, as it should; GSAM, which changes that gradient later, needs
`clip_norm` instead. Not supported: fp16 (bf16 is), gradient accumulation, DeepSpeed, FSDP, methods that look at parts
of the batch, and a `Regime` of several steps.
"""

import torch
from transformers import Trainer

from flatmin.optim import SAM


class SharpnessAwareTrainer(Trainer):
    """A Trainer for the optimizers of flatmin."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Return the loss at w, and leave the gradient at w + eps."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.optimizer.optimizer.ascend():  # the outer optimizer is accelerate's
            model.zero_grad()
            super().training_step(model, inputs, num_items_in_batch)
        return loss


def trainer_of(model, dataset, arguments):
    """SAM around AdamW; the Trainer makes the learning rate's schedule as ever."""
    optimizer = SAM(model, torch.optim.AdamW, rho=0.05, lr=arguments.learning_rate)
    return SharpnessAwareTrainer(model, arguments, train_dataset=dataset, optimizers=(optimizer, None))
