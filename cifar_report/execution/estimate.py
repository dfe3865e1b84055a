"""How long runs take relative to each other. What this machine needs for one is in `speed`."""

from __future__ import annotations

from collections.abc import Iterable

from cifar_report.execution.plan import PlannedRun

STARTUP = 2.0  # seconds that a run costs beyond its training: `make bench PARTS=around`

# Floating point operations of training on an image of 32 pixels, relative to Net's.
RELATIVE_COST = {"net": 1, "lenet": 5, "mobilenet_v2": 9, "resnet18": 46, "efficientnet_b0": 49, "vgg16": 664}


def longest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The order in which parallel runs end soonest: by floating point operations."""

    def cost(run: PlannedRun) -> float:
        e = run.parameters
        return RELATIVE_COST[e.model] * e.image_size**2 * min(e.train_limit or 50_000, 50_000) * e.epochs

    return sorted(runs, key=cost, reverse=True)
