"""One run, as a notebook drives it: data, model, training, evaluation, record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cifar_report.data.cache import load_images
from cifar_report.data.dataset import Dataset, load_dataset
from cifar_report.data.split_check import check_split
from cifar_report.experiments.catalog import load_catalog, load_experiment
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import Experiment, from_variables, shown
from cifar_report.records import files
from cifar_report.records import record as records
from cifar_report.records.backup import Backup
from cifar_report.records.code_digest import library_code
from cifar_report.records.key import key_facts, run_key
from cifar_report.records.lock import keep_lock, release_lock
from cifar_report.records.predictions import Predictions, read_predictions
from cifar_report.training.build import build_model
from cifar_report.training.checkpoint import Checkpoint
from cifar_report.training.cost import model_record
from cifar_report.training.environment import describe_environment, find_device
from cifar_report.training.evaluation import Evaluation, evaluate
from cifar_report.training.loop import train
from cifar_report.training.memory import keep_freed_memory, suppress_out_of_memory
from cifar_report.training.precision import amp_dtype, choose_precision, exact_float32

# Read now, so that it speaks of the code that is imported here, whatever becomes of the files meanwhile.
library_code()


class Run:
    """One run: an experiment with one seed.

    `parameters`, `family`, `folder` and `device` are set from the start; `dataset`, `model`, `history` and
    `evaluation` by the methods that make them, to be called in that order.
    """

    dataset: Dataset
    model: nn.Module
    history: list[records.EpochRecord]
    evaluation: Evaluation
    _facts: records.KeyFacts  # what the key is made of; from `build_model`
    _as_built: bool  # whether the model has its initial weights
    _finished: records.RunRecord | None  # these from `train`
    _checkpoint: Checkpoint
    _environment: records.EnvironmentRecord
    _last_validation: Evaluation
    _pflop: float | None
    _one_view_accuracy: float  # from `evaluate`

    def __init__(self, parameters: Experiment, family: str) -> None:
        self.parameters = parameters
        self.family = family
        e = parameters
        self.folder = records.run_folder(e.output_dir, e.experiment, e.seed, fold=e.fold, folds=e.folds)
        self.device = find_device(parameters.device)
        exact_float32()
        self.warnings: list[str] = []
        self._weights: records.WeightsRecord | None = None
        self._started_at = records.now()
        self._clock = perf_counter()
        self._seconds = records.SecondsRecord()
        self._backup = Backup(self.folder)

    def __getattr__(self, name: str) -> Any:
        if name in Run.__annotations__:  # what a method makes that was not called yet
            raise RequestError("what this needs is not there yet: execute the cells above first, in their order")
        raise AttributeError(name)

    @classmethod
    def start(cls, variables: Mapping[str, Any], *, family: str) -> Run:
        """Validate a notebook's parameters (`globals()`) and make the run's folder; an earlier result in it stays.

        Raises:
            RequestError: a parameter is wrong, the experiment belongs to another notebook, another process executes
                this run, or the folder cannot be written or was written by a newer version.
        """
        keep_freed_memory()
        parameters = from_variables(variables)
        home = load_catalog().family_of.get(parameters.experiment)
        if home is not None and home.name != family:
            raise RequestError(
                f"{parameters.experiment} belongs to the notebook {home.notebook}; "
                f"this one is for the family '{family}'"
            )
        run = cls(parameters, family)
        records.read_record(run.folder)  # refuses one of a newer version
        try:
            keep_lock(run.folder)
            files.remove_half_written(run.folder)
        except OSError as error:
            raise RequestError(f"cannot write to the run folder {run.folder}: {error.strerror}") from None
        print(f"{parameters.experiment}, seed {parameters.seed}, on {run.device}; results go to {run.folder}")
        if home is not None:
            for name, (usual, value) in parameters.differences(load_experiment(parameters.experiment)).items():
                print(f"{name} is {shown(value)}; params/{parameters.experiment.lower()}.yaml has {shown(usual)}")
        return run

    def load_dataset(self) -> Dataset:
        """Load the images."""
        with self._phase("setup"):
            e = self.parameters
            check_split(load_images(e.dataset, data_dir=e.data_dir, offline=e.offline, size=e.image_size)[0], e)
            self.dataset = load_dataset(e, self.device)
        self._warn(self.dataset.warning)
        print(self.dataset)
        return self.dataset

    def build_model(self) -> nn.Module:
        """Build the model with its initial weights, which the seed decides."""
        self._forget_training()
        with self._phase("setup"):
            self.model, self._weights, warning = build_model(self.parameters, len(self.dataset.classes))
            self._as_built = True
            self.model.to(self.device)
            notebook = load_catalog().family_named(self.family).notebook_path
            weights_sha256 = self._weights.sha256 if self._weights else None
            self._facts = key_facts(self.parameters, notebook, self.dataset.record.sha256, weights_sha256)
        self._warn(warning)
        if weights := self._weights:
            print(f"ImageNet weights of {self.parameters.model}: {weights.source}, SHA-256 {weights.sha256[:16]}…")
        return self.model

    def train(self) -> list[records.EpochRecord]:
        """Train the model, from the checkpoint of an interrupted run if there is one.

        Each finished epoch becomes a row of `history.csv`. If this very run is complete already, its weights are loaded
        instead.
        """
        self._forget_training()
        if not self._as_built:  # this was interrupted, say: with no checkpoint yet, it starts from the initial weights
            self.model.load_state_dict(build_model(self.parameters, len(self.dataset.classes))[0].state_dict())
        self._as_built = False
        self._finished = self._load_finished()
        if not self._finished and self._backup.restore_result(self.key):
            self._finished = self._load_finished()
        if self._finished:
            print(f"this run is complete: its model comes from {self.folder}; remove that folder to train it again")
            amp = amp_dtype(self.parameters, self.device)
            self._last_validation = evaluate(self.model, self.dataset.validation, self.parameters, amp=amp)
            self.history = self._finished.epochs
            return self.history
        self._environment = describe_environment(self.device)
        self._checkpoint = Checkpoint(
            self.folder / files.CHECKPOINT,
            self.key,
            device=f"{self.device.type}, {choose_precision(self.parameters, self.device)}",
            started_at=self._started_at,
            environments=[self._environment.model_dump(exclude={"git_commit", "git_dirty"})],  # code is in the key
            facts=self._facts,
        )
        self._backup.restore_state(self._checkpoint.key, self._checkpoint.device)
        trained = None
        with self._phase("train"), suppress_out_of_memory() as lacking:
            trained = train(
                self.model, self.dataset, self.parameters, checkpoint=self._checkpoint, on_epoch=self._append_epoch
            )
        if trained is None:
            raise RequestError(
                f"{self.device} is out of memory with batch_size={self.parameters.batch_size}: set a smaller one, or "
                f"let fewer runs share the GPU ({lacking[0]})"
            )
        self.history, self._last_validation, self._pflop = trained
        self._started_at = self._checkpoint.started_at
        self._warn(self._checkpoint.warning)
        sessions = pd.DataFrame(self._checkpoint.environments).items()
        differ = [f"{name} {', then '.join(map(str, of.unique()))}" for name, of in sessions if of.nunique() > 1]
        self._warn(f"{records.RESUMED_ELSEWHERE}: {'; '.join(differ)}" if differ else None)
        return self.history

    def evaluate(self) -> Evaluation:
        """Score the final model on the test images."""
        with self._phase("evaluate"):
            amp = amp_dtype(self.parameters, self.device)
            self.evaluation = self._last_validation  # of the final model, in the original protocol on the test images
            if self.dataset.validation is not self.dataset.test:
                self.evaluation = evaluate(self.model, self.dataset.test, self.parameters, amp=amp)
            self._one_view_accuracy = self.evaluation.accuracy
            if self._several_views:
                self.evaluation = evaluate(self.model, self.dataset.test, self.parameters, amp=amp, test_time=True)
        e = self.evaluation
        print(f"final model: {e.accuracy:.2%} of {len(e.labels):,} test images ({e.correct:,}), loss {e.loss:.3f}")
        if self._several_views:
            print(f"scored on several views of each image; on one view: {self._one_view_accuracy:.2%}")
        return e

    @property
    def _several_views(self) -> bool:
        return self.parameters.test_time_flip or self.parameters.test_time_shift

    @property
    def key(self) -> str:
        """What identifies the result, once the model is built."""
        return run_key(self.parameters, self._facts)

    @property
    def predictions(self) -> Predictions:
        """What the final model answered to the test images."""
        return self.evaluation.predictions(self.dataset.test_index)

    def record(self) -> records.RunRecord:
        """The run's record; `complete` writes it."""
        earlier = max(0.0, sum(epoch.seconds for epoch in self.history) - self._seconds.train)  # before an interruption
        train_seconds, total = self._seconds.train + earlier, perf_counter() - self._clock + earlier
        entry = load_catalog().entries.get(self.parameters.experiment)
        return records.RunRecord(
            experiment=self.parameters.experiment,
            title=entry.title if entry else None,
            builds_on=entry.builds_on if entry else None,
            family=self.family,
            seed=self.parameters.seed,
            key=self.key,
            key_facts=self._facts,
            status="completed",
            parameters=self.parameters.result_parameters(),
            started_at=self._started_at,
            finished_at=records.now(),
            seconds=self._seconds.model_copy(update={"train": train_seconds, "total": total}),
            epochs=self.history,
            test=records.TestRecord(
                loss=self.evaluation.loss,
                accuracy=self.evaluation.accuracy,
                correct=self.evaluation.correct,
                total=len(self.evaluation.labels),
                accuracy_without_flip=self._one_view_accuracy if self._several_views else None,
            ),
            best_epoch=int(np.argmin([epoch.validation_loss for epoch in self.history])) + 1,
            model=model_record(self.parameters.model, self.model),
            data=self.dataset.record,
            weights=self._weights,
            precision=choose_precision(self.parameters, self.device),
            training_pflop=self._pflop,
            warnings=[*self.warnings, *self._backup.warnings],
            environment=self._environment,
        )

    def complete(self) -> records.RunRecord:
        """Write weights and predictions, then the record: its presence says that the run is complete.

        They replace the folder's earlier result; a run that was complete already stays as it is.
        """
        if self._finished:
            release_lock(self.folder)
            return self._finished
        predictions = self.predictions
        (self.folder / files.RECORD).unlink(missing_ok=True)  # of an earlier result, whose files are replaced now
        state = {name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        with files.atomic_file(self.folder / files.WEIGHTS) as temporary:
            save_file(state, temporary)
        with files.atomic_file(self.folder / files.PREDICTIONS) as temporary:
            predictions.write(temporary)
        record = self.record()
        records.write_record(self.folder, record)
        self._checkpoint.remove()
        self._backup.save(files.RESULT_FILES)
        release_lock(self.folder)
        print(f"complete: {self.folder / files.RECORD}")
        return record

    def _forget_training(self) -> None:
        """Let no later cell take what is known of an earlier training for that of today's model."""
        for later in ("history", "evaluation", "_finished", "_last_validation"):
            self.__dict__.pop(later, None)

    def _load_finished(self) -> records.RunRecord | None:
        """Load the weights of this very run if its folder holds its complete result; return its record then."""
        record = records.read_record(self.folder)
        if record is None or record.status != "completed" or record.key != self.key:
            return None
        with suppress(OSError, SafetensorError):
            state = load_file(self.folder / files.WEIGHTS)
            if read_predictions(self.folder) is not None:
                self.model.load_state_dict(state)
                return record
        return None

    def _append_epoch(self, epoch: records.EpochRecord) -> None:
        first = epoch.epoch == 1  # whose row replaces what an earlier run left there
        row = pd.DataFrame([epoch.model_dump()])
        row.to_csv(self.folder / files.HISTORY, mode="w" if first else "a", header=first, index=False, na_rep="nan")
        self._backup.save_state()

    def _warn(self, warning: str | None) -> None:
        if warning:
            self.warnings.append(warning)
            print(f"WARNING: {warning}")

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            setattr(self._seconds, name, getattr(self._seconds, name) + perf_counter() - started)
