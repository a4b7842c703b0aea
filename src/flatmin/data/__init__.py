"""Data: sources and their verified files, label noise, draws, augmentation, batches."""
