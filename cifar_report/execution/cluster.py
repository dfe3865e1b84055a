"""Executing a plan on a Ray cluster, one task a run. Ray places, queues and retries the tasks."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from cifar_report.execution.execute import POLL, missing_runs, summary
from cifar_report.execution.plan import PlannedRun, longest_first
from cifar_report.execution.resources import THREAD_VARIABLES
from cifar_report.execution.worker import BROKEN, Worker, failed_record, write_failed_record
from cifar_report.experiments.errors import RequestError, first_line
from cifar_report.records.key import key_facts
from cifar_report.records.lock import HeldError, folder_lock
from cifar_report.records.record import ErrorRecord, RunRecord, read_record

RETRIES = 10  # nodes that may die under one run
PAUSE = 60.0  # seconds for which a GPU that does not work takes no further run
SYNCHRONIZED = 90.0  # seconds after which a shared folder shows everywhere what was written in it; of NFS up to 60


def execute_on_ray(
    plan: Sequence[PlannedRun],
    *,
    address: str | None = None,
    jobs: int | None = None,
    runs_per_gpu: int = 1,
) -> list[RunRecord]:
    """Execute the runs of the plan that are not complete, each as a Ray task on the output folder that all nodes share.

    A run whose node dies is resumed on another node after its last finished epoch. A failed run stops no other.
    `jobs` runs share the cluster's cores; `None`: one core a run, or with GPUs each GPU's share. Without `address` the
    cluster is that of `RAY_ADDRESS`, or a new one on this machine. One that runs here must be named: Ray would find it
    by a file that any user of the machine can write. Returns the records of the runs executed, completed or failed.

    Raises:
        RequestError: Ray is not installed or there is no cluster at the address.
    """
    missing, diverged = missing_runs(plan)
    if not missing:
        return diverged
    ray = _connect(address)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        with_gpus = any(run.parameters.device != "cpu" for run in missing)
        threads, gpu = resource_request(nodes, jobs=jobs, runs_per_gpu=runs_per_gpu, with_gpus=with_gpus)
        cores, devices = (sum(node.get(what, 0) for node in nodes) for what in ("CPU", "GPU"))
        share = f", {gpu:g} of a GPU" if gpu else ""
        print(f"Ray: {len(nodes)} nodes, {cores:.0f} cores, {devices:.0f} GPUs; each run gets {threads} cores{share}")
        task = ray.remote(
            num_cpus=threads,
            num_gpus=gpu,
            max_retries=RETRIES,
            max_calls=0,  # Ray's processes are kept between runs: what holds GPU memory is each run's own process
            scheduling_strategy="SPREAD",
        )(_execute_here)
        settings = {n: v for n, v in os.environ.items() if n.startswith("CIFAR_REPORT_") or n == "TORCH_HOME"}
        given = threads, settings, str(Path.cwd())
        tasks = {task.options(name=run.name).remote(run, *given): run for run in longest_first(missing)}
        return diverged + _collect(ray, tasks)
    finally:
        ray.shutdown()


def _collect(ray: Any, tasks: dict[Any, PlannedRun]) -> list[RunRecord]:
    records: list[RunRecord] = []
    waiting, started = list(tasks), perf_counter()
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            for reference in done:
                try:
                    record = _seen_here(tasks[reference], ray.get(reference))
                except ray.exceptions.RayError as error:  # the node of every retry died, or Ray itself ended the task
                    record = _lost_by_ray(tasks[reference], error, started)
                records.append(record)
                print(f"[{len(records)}/{len(tasks)}] {summary(record)}")
    except BaseException:  # interrupted: end at once, each goes on from its last state
        for reference in waiting:
            ray.cancel(reference, force=True)
        raise
    return records


def _seen_here(run: PlannedRun, record: RunRecord) -> RunRecord:
    """The record that a node has returned, or of a failure, not written, where the folder does not hold its result."""
    deadline = perf_counter() + SYNCHRONIZED
    while record.status == "completed" and read_record(run.folder) != record and not run.is_complete():
        if perf_counter() > deadline:
            message = f"a node executed it, but {run.folder} does not show it: all nodes must share the output folder"
            failure = ErrorRecord(type="NotShared", message=message)
            return failed_record(run, failure, perf_counter() - record.seconds.total)
        time.sleep(POLL)
    return record


def _lost_by_ray(run: PlannedRun, error: Exception, started: float) -> RunRecord:
    """The record of a run whose task has failed: it may be complete, or another process may be executing it."""
    cause = getattr(error, "cause", None) or error
    failure = ErrorRecord(type=type(cause).__name__, message=first_line(cause))
    try:
        with folder_lock(run.folder):
            if run.is_complete() and (record := read_record(run.folder)):
                return record
            return write_failed_record(run, failure, started)
    except HeldError:
        return failed_record(run, failure, started)


def resource_request(
    nodes: Sequence[Mapping[str, float]], *, jobs: int | None, runs_per_gpu: int, with_gpus: bool
) -> tuple[int, float]:
    """The cores and the share of a GPU that each run reserves, so that runs share the nodes' (`CPU`, `GPU`)."""
    gpu_nodes = [node for node in nodes if node.get("GPU", 0) >= 1] if with_gpus else []
    if gpu_nodes:
        shares = [node.get("CPU", 1) // (node["GPU"] * runs_per_gpu) for node in gpu_nodes]
        return max(1, int(min(shares))), 1 / runs_per_gpu
    if jobs is None:
        return 1, 0
    cores = [node.get("CPU", 1) for node in nodes]
    return max(1, int(min(max(cores), sum(cores) // jobs))), 0


def _connect(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise RequestError("--executor ray requires Ray: pip install 'cifar-report[ray]'") from None
    try:
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RequestError(f"no Ray cluster at {address}: {first_line(error)}") from None
    return ray


def _execute_here(run: PlannedRun, threads: int, settings: dict[str, str], folder: str) -> RunRecord:
    """What a Ray task does on its node: execute the run in a process of its own, as on a single machine.

    Ray has set `CUDA_VISIBLE_DEVICES` to the task's GPU. A repeated task whose run is complete only returns its record.
    """
    if key_facts(run.parameters, run.family.notebook_path, run.facts.data, run.facts.weights) != run.facts:
        raise RuntimeError("the node has another cifar-report than the machine that made the plan: install the same")
    environment = {**os.environ, **settings, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with contextlib.chdir(folder) if Path(folder).is_dir() else contextlib.nullcontext():
        while True:
            worker = Worker.start(run, environment)
            worker.process.join()
            if record := worker.result():
                return record
            if worker.process.exitcode == BROKEN:
                time.sleep(PAUSE)
                failed = read_record(run.folder)
                failure = ErrorRecord(type="BrokenGPU", message="its GPU does not work")
                return failed if failed and failed.error else failed_record(run, failure, worker.started)
            time.sleep(POLL)  # another process has the run, perhaps one whose node is dying
