"""Experiments about values and gradients that leave the range of a floating-point number."""
