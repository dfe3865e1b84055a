"""Optimizers, one a file. A new one is a file here and its name in the field `optimizer` of `experiments/schema.py`.

`training/choices.py` says what the file must have, `training/optimization.py` builds the one that a run asks for.
"""
