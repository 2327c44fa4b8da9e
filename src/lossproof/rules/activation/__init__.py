"""Rules about the activation in front of a loss: missing, doubled, or along the wrong axis."""
