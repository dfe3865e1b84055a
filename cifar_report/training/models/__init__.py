"""Models, one a file. `training/choices.py` says what a file must have; CONTRIBUTING.md how to add one."""
