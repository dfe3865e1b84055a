"""Augmentations, one a file. A new one is a file here and its name in `Augmentation` of `experiments/schema.py`.

`training/choices.py` says what the file must have.
"""
