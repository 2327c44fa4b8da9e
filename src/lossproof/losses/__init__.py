"""Objectives done right."""
