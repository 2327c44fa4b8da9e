"""Reads handwritten digits: which digit it is, how it is drawn, where the ink is and how much of it."""
