"""Experiments about rare classes: focal losses, class weights, resampling."""
