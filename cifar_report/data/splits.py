"""Which images train, validate and test: fixed, class-balanced, and independent of the run's seed."""

from __future__ import annotations

import hashlib

import numpy as np

from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment

SPLIT_SEED = 20201228  # one split for all runs, so that they can be compared image by image


def split(labels: np.ndarray, train_size: int, parameters: Experiment) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices into `labels` of the training, validation and test images, each in ascending order.

    With `validation: test` the validation images are the test images, as in the original protocol.
    """
    pool, test = np.arange(train_size), np.arange(train_size, len(labels))
    test = balanced(test, labels, parameters.test_limit)
    if parameters.validation == "test":
        train, validation = pool, test
    else:
        parts = _stratified_folds(pool, labels, parameters)
        validation = np.sort(parts[0])
        train = np.setdiff1d(pool, validation)
    return balanced(train, labels, parameters.train_limit), validation, test


def balanced(indices: np.ndarray, labels: np.ndarray, limit: int | None) -> np.ndarray:
    """At most the first `limit` of `indices`, classes as equal as can be; larger limits contain smaller ones."""
    if limit is None or limit >= len(indices):
        return indices
    rank = rank_in_class(labels[indices])
    # Round by round one image of every class: ties are broken by class, so that any limit is balanced.
    order = np.lexsort((labels[indices], rank))
    return np.sort(indices[order[:limit]])


def _stratified_folds(pool: np.ndarray, labels: np.ndarray, parameters: Experiment) -> list[np.ndarray]:
    """The validating part, chosen by `SPLIT_SEED` alone: a fold has each class's share, a hold-out as many of each."""
    shuffled = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(pool)
    rank = rank_in_class(labels[shuffled])
    if parameters.validation == "fold":
        assert parameters.folds is not None  # the schema refuses anything else
        return [shuffled[rank % parameters.folds == parameters.fold]]
    if parameters.holdout_size >= len(pool):
        raise RequestError(
            f"holdout_size is {parameters.holdout_size:,}, but there are only {len(pool):,} training images"
        )
    return [balanced(shuffled, labels, parameters.holdout_size)]


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each element its position among the elements of the same class."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return rank


def split_digest(*parts: np.ndarray) -> str:
    """SHA-256 of the index arrays as little-endian int64, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.int64(len(part)).astype("<i8").tobytes())
        digest.update(part.astype("<i8").tobytes())
    return digest.hexdigest()
