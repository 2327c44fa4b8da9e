"""Rules about losses that compare the features of a pretrained network."""
