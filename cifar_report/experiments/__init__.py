"""What is asked: the parameters of an experiment, the catalog of experiments, and errors for people. No torch."""
