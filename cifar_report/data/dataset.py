"""The images of one run as tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cifar_report.data.cache import load_images
from cifar_report.data.splits import split, split_digest
from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import DataRecord


@dataclass(frozen=True)
class Split:
    """Images (uint8, (N, 3, S, S), S = 32 but of folders) and labels (int64, (N,)) of one part of a dataset."""

    images: torch.Tensor
    labels: torch.Tensor
    classes: int = 10

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test images; `validation` is `test` itself in the original protocol.

    `test_index` (int64, (N,)) says which images of the whole test set `test` holds.
    """

    train: Split
    validation: Split
    test: Split
    test_index: np.ndarray
    classes: tuple[str, ...]
    record: DataRecord
    warning: str | None

    def __str__(self) -> str:
        r = self.record
        validation = "the test images" if self.validation is self.test else f"{r.validation_size:,} held out"
        return (
            f"{r.name} from {r.source}: {r.train_size:,} training images, validation: {validation}, "
            f"{r.test_size:,} test images"
        )


def load_dataset(parameters: Experiment, device: torch.device | str = "cpu") -> Dataset:
    """Load the dataset that `parameters` ask for and move it, as uint8, to `device` (184 MB for CIFAR-10).

    Raises:
        RequestError: the data is damaged or not found, or `holdout_size` leaves nothing to train on.
    """
    e = parameters
    images, warning = load_images(e.dataset, data_dir=e.data_dir, offline=e.offline, size=e.image_size)
    train, validation, test = split(images.labels, images.train_size, parameters)

    def take(indices: np.ndarray) -> Split:
        whole = len(indices) == indices[-1] - indices[0] + 1  # a slice keeps the memory map, an index copies
        chosen = slice(indices[0], indices[-1] + 1) if whole else indices
        return Split(
            torch.from_numpy(images.pixels[chosen]).to(device),
            torch.from_numpy(images.labels[chosen]).long().to(device),
            len(images.classes),
        )

    test_split = take(test)
    record = DataRecord(
        name="digits" if warning else e.dataset,
        source=images.source,
        sha256=images.sha256,
        train_size=len(train),
        test_size=len(test),
        validation=parameters.validation,
        validation_size=len(validation),
        split_sha256=split_digest(train, validation, test),
        stand_in=warning is not None,
        provenance=images.provenance,
        classes=images.classes if e.dataset == "folder" else None,
    )
    return Dataset(
        train=take(train),
        validation=test_split if parameters.validation == "test" else take(validation),
        test=test_split,
        test_index=test - images.train_size,
        classes=images.classes,
        record=record,
        warning=warning,
    )
