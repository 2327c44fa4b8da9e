"""Experiments about what a loss averages over, and what of it reaches the weights."""
