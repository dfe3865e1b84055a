"""Memory that a training step frees is kept, and a run does not grow by it."""

import subprocess
import sys

import pytest
import torch

from cifar_report.experiments.errors import RequestError
from cifar_report.run import Run
from cifar_report.training import loop

STEPS = """
import random
import numpy as np
from cifar_report.training.memory import keep_freed_memory

assert keep_freed_memory()

def resident():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))

random.seed(0)
kept, sizes = [], []  # small objects outlive the blocks that were around them
for step in range(30):
    blocks = [np.ones(random.randrange(*{range}) << 20, dtype=np.uint8) for _ in range(6)]
    random.shuffle(blocks)
    while blocks:
        blocks.pop()
        kept.append(np.ones(1000, dtype=np.uint8))
    sizes.append(resident())
print(sizes[4], sizes[-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")
@pytest.mark.parametrize("megabytes", [(40, 56), (4, 12)], ids=["large blocks", "small blocks"])
def test_the_process_does_not_grow_with_the_steps(megabytes):
    script = STEPS.replace("{range}", str(megabytes))
    early, late = map(int, subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert late < early + 100  # before: 3 GB


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")
def test_blocks_of_a_step_at_32_pixels_are_kept():
    script = """
import numpy as np
from cifar_report.training.memory import keep_freed_memory
keep_freed_memory()
faults = lambda: int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[7])
np.ones(16 << 20, dtype=np.uint8)
before = faults()
np.ones(16 << 20, dtype=np.uint8)
print(faults() - before)
"""
    assert int(subprocess.check_output([sys.executable, "-c", script], text=True)) < 400  # pages; anew: 4,096


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_out_of_memory_names_the_batch_size_and_what_the_gpu_said(tiny, tmp_path, monkeypatch, error):
    def prepared(*given):
        raise error

    monkeypatch.setattr(loop, "prepared", prepared)
    run = Run.start(tiny(output_dir=str(tmp_path), batch_size=64).model_dump(), family="baseline")
    run.load_dataset()
    run.build_model()
    with pytest.raises(RequestError, match=rf"memory with batch_size=64: set a smaller one, .*\({error}\)"):
        run.train()
