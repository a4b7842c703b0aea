"""Augmentation of training batches on the device that trains."""
