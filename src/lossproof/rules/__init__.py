"""The rules: a folder a family, a file a rule. See ``registry.py``."""
