"""Models, one a file. A new one is a file here and its name in `Model` of `experiments/schema.py`.

`training/choices.py` says what the file must have; `execution/resources.py` how costly it is.
"""
