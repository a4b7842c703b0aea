"""Predictions of a trained model and what is measured on them."""
