"""Experiments about several losses added up."""
