"""Experiments about the training loop around the loss."""
