"""Learning rate schedules, one a file. A new one is a file here and its name in the field `schedule` of the schema.

`training/choices.py` says what the file must have, `training/loop.py` advances it after every training step.
"""
