"""A reproducible notebook report package for CIFAR-10."""

__version__ = "0.1.0"
