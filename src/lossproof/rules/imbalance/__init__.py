"""Focal losses, class weights and balanced sampling."""
