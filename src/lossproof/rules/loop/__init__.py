"""Rules about the loop around the loss: gradients, accumulation, and the mode of the network."""
