"""`cifar-report doctor`: what a machine has, and what to do where something is missing or broken."""

from types import SimpleNamespace

import pytest
import torch

from cifar_report.cli import main
from cifar_report.execution import doctor
from cifar_report.experiments.errors import RequestError
from cifar_report.training.precision import require_supported


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """One without a GPU and without a network, whose speed is known."""
    monkeypatch.setattr(doctor, "gpus", tuple)
    monkeypatch.setattr(doctor, "seconds_left", lambda run: 480.0)
    monkeypatch.setenv("CIFAR_REPORT_OFFLINE", "1")
    monkeypatch.setenv("CIFAR_REPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("CIFAR_REPORT_DATA", "CIFAR_REPORT_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


def found(folder):
    return {finding.name: (finding.status, finding.text) for finding in doctor.examine(folder)}


def test_a_machine_that_runs_can_use_is_described_line_by_line(tmp_path, capsys):
    assert main(["doctor", "--output", str(tmp_path / "out")]) == 0
    lines = dict(line[9:].split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "runs use the CPU" in lines["GPU 0"]
    assert lines["images"] == "CIFAR-10 is not on this machine: `cifar-report fetch` downloads it"
    assert lines["weights of vgg16"] == "not on this machine: `cifar-report fetch` downloads them"
    assert "switched off (CIFAR_REPORT_OFFLINE)" in lines["network"]
    assert "writable, with locks" in lines["output"]
    assert lines["packages it needs"] == "of the versions that it needs"
    assert lines["speed"].endswith("takes about 8 min")
    assert not (tmp_path / "out").exists()


def test_what_is_broken_is_named_with_its_remedy_and_the_rest_is_examined(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "out").write_text("a file")
    monkeypatch.setenv("CIFAR_REPORT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CIFAR_REPORT_WEIGHTS", str(tmp_path / "nowhere"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    assert main(["doctor", "--output", str(tmp_path / "out")]) == 1
    status = found(tmp_path / "out")
    assert status["images"] == ("broken", status["images"][1])
    assert "holds no copy of CIFAR-10: expected cifar-10-python.tar.gz" in status["images"][1]
    assert "which does not exist" in status["weights of resnet18"][1]
    assert "Not a directory" in status["output"][1]
    assert "has 1.0 GiB free; one seed of a journal takes ~5 GiB" in status["cache"][1]
    assert status["speed"][0] == "ok"


def test_a_gpu_that_pytorch_does_not_reach_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "gpus", lambda: ("0", "1"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status = found(tmp_path)
    assert status["GPU 0"] == status["GPU 1"]
    assert status["GPU 0"][0] == "broken"
    assert "install a build of PyTorch for its driver" in status["GPU 0"][1]


@pytest.mark.parametrize(
    ("capability", "built", "supported"),
    [
        ((7, 5), ["sm_75", "sm_80"], True),
        ((8, 6), ["sm_75", "sm_80"], True),  # code for 8.0 runs on 8.6
        ((7, 0), ["sm_75", "sm_80"], False),
        ((3, 7), ["sm_75", "compute_120"], False),
        ((12, 1), ["sm_90a", "compute_90"], True),  # compiled when it is loaded
        ((10, 0), ["sm_90", "sm_120"], False),
        ((9, 0), [], True),  # unknown: PyTorch decides
    ],
)
def test_a_gpu_that_pytorch_was_not_built_for_is_refused(monkeypatch, capability, built, supported):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    if supported:
        require_supported(torch.device("cuda"))
    else:
        with pytest.raises(RequestError, match="was not built for A GPU"):
            require_supported(torch.device("cuda"))
    require_supported(torch.device("cpu"))
