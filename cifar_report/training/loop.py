"""The training loop, its random generators, and its state for a checkpoint."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from cifar_report.data.dataset import Dataset, Split
from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import EpochRecord
from cifar_report.training.averaging import Lookahead
from cifar_report.training.checkpoint import Checkpoint
from cifar_report.training.choices import chosen
from cifar_report.training.cost import training_pflop
from cifar_report.training.evaluation import Evaluation, evaluate
from cifar_report.training.frozen import train_mode, without_frozen_part
from cifar_report.training.inputs import augment, to_input
from cifar_report.training.mixing import mix
from cifar_report.training.optimization import build_optimizer, build_schedule
from cifar_report.training.precision import amp_dtype, exact_float32
from cifar_report.training.whitening import whiten

# Images of 32 pixels that are prepared at once; fixed, since augmentation draws its random numbers in this order.
PREPARED_IMAGES = 1024


class DivergedError(ArithmeticError):
    """The training or validation loss is no longer a finite number."""


@dataclass
class Training:
    """Everything that changes while a model is trained: what a checkpoint holds."""

    model: nn.Module
    network: nn.Module  # what is applied to a batch: the model, or its part behind what is computed once
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    order: torch.Generator
    augmentation: torch.Generator
    turn: torch.Tensor  # from which each training image counts how often it is shown, int64 (N,)
    history: list[EpochRecord]

    @classmethod
    def start(cls, model: nn.Module, network: nn.Module, dataset: Dataset, parameters: Experiment) -> Training:
        """The state before the first epoch. Seeds torch's global generator, which dropout draws from."""
        device = dataset.train.images.device
        torch.manual_seed(parameters.seed)
        optimizer = build_optimizer(model.parameters(), parameters)
        steps = len(shuffled_batches(len(dataset.train), parameters.batch_size, torch.Generator()))
        return cls(
            model=model,
            network=network,
            optimizer=optimizer,
            schedule=build_schedule(optimizer, parameters, steps),
            scaler=torch.amp.GradScaler(device.type, enabled=amp_dtype(parameters, device) is torch.float16),
            order=torch.Generator().manual_seed(parameters.seed),
            augmentation=torch.Generator(device).manual_seed(parameters.seed),
            turn=torch.randint(
                1000, (len(dataset.train),), generator=torch.Generator().manual_seed(parameters.seed)
            ).to(device),
            history=[],
        )

    def state_dict(self) -> dict[str, Any]:
        """The whole state as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
            "generator": torch.get_rng_state(),
            "device_generator": self._device_generator().get_state(),
            "history": [epoch.model_dump() for epoch in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.order.set_state(state["order"])
        self.augmentation.set_state(state["augmentation"])
        torch.set_rng_state(state["generator"])
        self._device_generator().set_state(state["device_generator"])
        self.history = [EpochRecord(**epoch) for epoch in state["history"]]

    def _device_generator(self) -> torch.Generator:
        """The generator that dropout draws from on the model's device."""
        device = self.augmentation.device
        if device.type == "cuda":
            return torch.cuda.default_generators[device.index or 0]
        if device.type == "mps":
            return torch.mps._get_default_mps_generator()
        return torch.default_generator


class Trained(NamedTuple):
    """What a training gives, beside the model itself."""

    history: list[EpochRecord]
    validation: Evaluation  # of the final model, on the validation images
    pflop: float


def train(
    model: nn.Module,
    dataset: Dataset,
    parameters: Experiment,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda epoch: None,
    frozen_once: bool = True,
) -> Trained:
    """Train `model` in place for `parameters.epochs` epochs and validate after each.

    The same seed gives the same weights, to the last bit on the same CPU with the same number of threads,
    whether or not training was interrupted and went on from its checkpoint.

    Args:
        model: on the device of the dataset.
        dataset: its images stay on their device as uint8; each batch is augmented and normalized there. Behind a
            frozen part of the model and without augmentation, what that part computes takes their place.
        parameters: everything else.
        checkpoint: where the state is kept after every epoch, and read from at the start.
        on_epoch: called with the record of each finished epoch, those before an interruption included.
        frozen_once: compute what a frozen part gives for each image once; `False` is for comparison.

    Raises:
        DivergedError: the training or validation loss is not finite at the end of an epoch.
    """
    exact_float32()
    amp = amp_dtype(parameters, dataset.train.images.device)
    network = model
    if parameters.whiten:
        whiten(model.get_submodule(chosen("model", parameters.model).FIRST), dataset.train.images, parameters.normalize)
    if frozen_once:
        network, dataset = without_frozen_part(model, dataset, parameters, amp=amp)
    pflop = training_pflop(model, parameters, images=len(dataset.train), frozen_once=network is not model)
    if parameters.compile:
        network = cast(nn.Module, torch.compile(network))
    training = Training.start(model, network, dataset, parameters)
    state = checkpoint.load() if checkpoint else None
    if state is not None:
        training.load_state_dict(state)
        print(f"going on after epoch {len(training.history)} of {parameters.epochs}")
        for epoch in training.history:
            on_epoch(epoch)
        validation = evaluate(network, dataset.validation, parameters, amp=amp)

    for number in range(len(training.history) + 1, parameters.epochs + 1):
        started = perf_counter()
        lr = training.optimizer.param_groups[0]["lr"]
        train_loss, train_accuracy = train_one_epoch(training, dataset.train, parameters)
        if not math.isfinite(train_loss):
            raise DivergedError(f"the training loss is {train_loss} in epoch {number}; try a smaller lr than {lr:g}")
        validation = evaluate(network, dataset.validation, parameters, amp=amp)
        if not math.isfinite(validation.loss):
            raise DivergedError(
                f"the validation loss is {validation.loss} in epoch {number}; try a smaller lr than {lr:g}"
            )
        epoch = EpochRecord(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            lr=lr,
            seconds=perf_counter() - started,
        )
        training.history.append(epoch)
        if checkpoint:
            checkpoint.save(training.state_dict())
        on_epoch(epoch)
        print(
            f"epoch {number:3}/{parameters.epochs}  "
            f"training loss {train_loss:.3f}, accuracy {train_accuracy:6.2%}  "
            f"validation loss {epoch.validation_loss:.3f}, accuracy {epoch.validation_accuracy:6.2%}  "
            f"{epoch.seconds:.1f} s",
            flush=True,
        )
    return Trained(training.history, validation, pflop)


def train_one_epoch(training: Training, split: Split, parameters: Experiment) -> tuple[float, float]:
    """One pass over the training images in random order.

    Returns:
        loss and accuracy, means over the epoch's images, each seen by the model as it was at that step.
    """
    network, optimizer, scaler = training.network, training.optimizer, training.scaler
    train_mode(network, parameters.frozen_batchnorm)
    device = split.images.device
    amp = amp_dtype(parameters, device)
    losses, correct = [], []  # kept on the device: reading a loss would wait for it
    batches = shuffled_batches(len(split), parameters.batch_size, training.order)
    progress = tqdm(total=len(batches), leave=False, disable=not sys.stderr.isatty(), unit="batch")
    steps = parameters.epochs * len(batches)  # of the whole training
    lookahead = Lookahead(network) if parameters.lookahead else None
    turns = training.turn + len(training.history)
    for inputs, labels in prepared(batches, split, parameters, training.augmentation, turns):  # (B, 3, S, S), (B,)
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            logits = network(inputs)  # (B, classes)
            loss = F.cross_entropy(logits, labels, label_smoothing=parameters.label_smoothing)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        training.schedule.step()
        if lookahead:
            lookahead.step(training.schedule.last_epoch / steps)
        losses.append(loss.detach() * len(labels))
        correct.append(logits.detach().argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1)))
        progress.update()
    progress.close()
    if lookahead:
        lookahead.join(training.schedule.last_epoch / steps)
    loss_sum = torch.stack(losses).sum()
    return loss_sum.item() / len(split), torch.cat(correct).sum().item() / len(split)


def prepared(
    batches: Sequence[torch.Tensor],
    split: Split,
    parameters: Experiment,
    generator: torch.Generator,
    turns: torch.Tensor,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each batch's inputs, float32 (B, 3, S, S) in channels_last, and labels, int64 (B,) or float (B, classes).

    Several small batches are looked up, augmented and normalized at once: for 64 images of 32 pixels the calls alone
    would take a tenth of a small network's training step.
    """
    device = split.images.device
    together = max(1, PREPARED_IMAGES * 32 * 32 // (parameters.batch_size * parameters.image_size**2))
    for first in range(0, len(batches), together):
        group = batches[first : first + together]
        index = torch.cat(list(group)).to(device)
        images = split.images.index_select(0, index)  # uint8 (N, 3, S, S); six times as fast as images[index]
        images = augment(images, parameters.augment, generator, turns[index])
        images, labels = mix(images, split.labels[index], split.classes, parameters.mix, generator)
        inputs = to_input(images, parameters.image_size, parameters.normalize)
        sizes = [len(batch) for batch in group]
        yield from zip(inputs.split(sizes), labels.split(sizes), strict=True)


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Split a random permutation of `count` images into batches.

    A last batch of one image joins the one before: BatchNorm cannot learn from a single value a channel.
    """
    batches = list(torch.randperm(count, generator=generator).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        stray = batches.pop()
        batches[-1] = torch.cat([batches[-1], stray])
    return batches
