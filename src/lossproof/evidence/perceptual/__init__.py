"""Experiments about losses computed by a feature network."""
