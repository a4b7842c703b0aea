"""How sharp the loss is around a model's weights.

One measure, one file. `flatmin.sharpness.objective` is the loss they all look at, `flatmin.sharpness.perturbation`
the way they move the weights and put them back.
"""
