"""Training: one plain loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from cifar_report.augmentation import augment, to_input
from cifar_report.data.dataset import Dataset, Split
from cifar_report.evaluation import Evaluation, evaluate
from cifar_report.experiment import Experiment
from cifar_report.models import train_mode
from cifar_report.optimization import build_optimizer, build_schedule
from cifar_report.record import EpochRecord


class DivergedError(ArithmeticError):
    """The training loss is no longer a finite number."""


def train(
    model: nn.Module,
    dataset: Dataset,
    parameters: Experiment,
    *,
    on_epoch: Callable[[EpochRecord], None] = lambda epoch: None,
) -> tuple[list[EpochRecord], Evaluation]:
    """Train `model` in place for `parameters.epochs` epochs and validate after each.

    The same seed gives the same weights, to the last bit on the same CPU with the same number of threads.

    Args:
        model: on the device of the dataset.
        dataset: its images stay on their device as uint8; each batch is augmented and normalized there.
        parameters: everything else.
        on_epoch: called with the record of each finished epoch.

    Returns:
        the epochs' records, and the final model's evaluation on the validation images.

    Raises:
        DivergedError: the training loss is not finite at the end of an epoch.
    """
    device = dataset.train.images.device
    torch.manual_seed(parameters.seed)  # dropout
    order = torch.Generator().manual_seed(parameters.seed)
    augmentation = torch.Generator(device).manual_seed(parameters.seed)
    amp = amp_dtype(parameters.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
    optimizer = build_optimizer(model.parameters(), parameters)
    steps = len(shuffled_batches(len(dataset.train), parameters.batch_size, torch.Generator()))
    schedule = build_schedule(optimizer, parameters, steps)

    history = []
    for number in range(1, parameters.epochs + 1):
        started = perf_counter()
        lr = optimizer.param_groups[0]["lr"]
        train_loss, train_accuracy = train_one_epoch(
            model, dataset.train, parameters, optimizer, schedule, scaler, order, augmentation, amp
        )
        if not torch.isfinite(torch.tensor(train_loss)):
            raise DivergedError(f"the training loss is {train_loss} in epoch {number}; try a smaller lr than {lr:g}")
        validation = evaluate(model, dataset.validation, parameters, amp=amp)
        epoch = EpochRecord(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            lr=lr,
            seconds=perf_counter() - started,
        )
        history.append(epoch)
        on_epoch(epoch)
        print(
            f"epoch {number:3}/{parameters.epochs}  "
            f"training loss {train_loss:.3f}, accuracy {train_accuracy:6.2%}  "
            f"validation loss {epoch.validation_loss:.3f}, accuracy {epoch.validation_accuracy:6.2%}  "
            f"{epoch.seconds:.1f} s",
            flush=True,
        )
    return history, validation


def train_one_epoch(
    model: nn.Module,
    split: Split,
    parameters: Experiment,
    optimizer: Optimizer,
    schedule: LRScheduler,
    scaler: torch.amp.GradScaler,
    order: torch.Generator,
    augmentation: torch.Generator,
    amp: torch.dtype | None,
) -> tuple[float, float]:
    """One pass over the training images in random order.

    Returns:
        loss and accuracy, means over the epoch's images, each seen by the model as it was at that step.
    """
    train_mode(model)
    device = split.images.device
    loss_sum = torch.zeros((), device=device)  # summed on the device: reading a loss would wait for it
    correct = torch.zeros((), device=device, dtype=torch.int64)
    batches = shuffled_batches(len(split), parameters.batch_size, order)
    for index in tqdm(batches, leave=False, disable=not sys.stderr.isatty(), unit="batch"):
        index = index.to(device)
        images, labels = split.images[index], split.labels[index]  # uint8 (B, 3, 32, 32), int64 (B,)
        images = augment(images, parameters.augment, augmentation)
        inputs = to_input(images, parameters.image_size, parameters.normalize)  # (B, 3, S, S)
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            logits = model(inputs)  # (B, 10)
            loss = F.cross_entropy(logits, labels, label_smoothing=parameters.label_smoothing)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        loss_sum += loss.detach() * len(index)
        correct += (logits.detach().argmax(1) == labels).sum()
    return loss_sum.item() / len(split), correct.item() / len(split)


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Split a random permutation of `count` images into batches.

    A last batch of one image joins the one before: BatchNorm cannot learn from a single value a channel.
    """
    batches = list(torch.randperm(count, generator=generator).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        stray = batches.pop()
        batches[-1] = torch.cat([batches[-1], stray])
    return batches


def choose_device(name: str) -> torch.device:
    """The named device; `auto`: cuda where there is one, else mps, else cpu."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Type of mixed precision, `None` for float32: bfloat16, or float16 on GPUs that only emulate bfloat16."""
    if precision == "float32" or (precision == "auto" and device.type != "cuda"):
        return None
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
