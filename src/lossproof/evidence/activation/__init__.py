"""Experiments about what stands in front of a loss: an activation that is missing, doubled, or along the wrong axis."""
