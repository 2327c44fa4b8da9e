"""The network: one encoder, four heads."""

from reader.models.reader import DigitReader, build_reader

__all__ = ["DigitReader", "build_reader"]
