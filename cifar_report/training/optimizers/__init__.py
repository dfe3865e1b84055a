"""Choices of one parameter: see `choices.py`."""
