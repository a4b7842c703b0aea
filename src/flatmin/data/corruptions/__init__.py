"""One module per corruption of CIFAR-C. A new module here, with its ``CORRUPTION``, is a new corruption."""
