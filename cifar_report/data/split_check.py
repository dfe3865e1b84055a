"""Whether a split leaves enough to train on and to validate with."""

from __future__ import annotations

import math

import numpy as np

from cifar_report.data.sources import Images
from cifar_report.data.splits import split
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment


def check_split(images: Images, e: Experiment) -> None:
    """Refuse a split with nothing to validate with, a class without images to train on, and a rise of no steps."""
    train, validation, _ = split(images.labels, images.train_size, e)
    classes = len(np.unique(images.labels[train]))
    if not len(validation) or classes < min(len(images.classes), e.train_limit or math.inf):
        raise RequestError("a class has too few images to train on or to validate with: lower holdout_size or folds")
    batches = max(1, math.ceil((len(train) - 1) / e.batch_size))  # a last one of one image joins the one before
    if e.schedule == "triangular" and batches * e.epochs == 3:
        raise RequestError("schedule=triangular cannot have three training steps: set more epochs or smaller batches")
