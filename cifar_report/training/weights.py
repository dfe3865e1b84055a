"""ImageNet weights: where they are, fetching and loading them. Imports torch only to load."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_report.data.download import DownloadError, download, named_folder
from cifar_report.experiments.errors import RequestError, first_line
from cifar_report.experiments.schema import Experiment
from cifar_report.records.record import Provenance, WeightsRecord

if TYPE_CHECKING:
    from torch import nn

# torchvision's IMAGENET1K_V1; the last eight characters of a name are the first of the file's SHA-256.
DOWNLOADS = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
}

Found = tuple[Path | None, WeightsRecord | None, str | None]  # file, record, warning


def find_weights(parameters: Experiment, *, download: bool = True) -> Found:
    """Find ImageNet weights: in `weights_dir`, else `$CIFAR_REPORT_WEIGHTS`, else torchvision's own download.

    Without `download` only those that are on this machine are found.

    Returns:
        the file, its record, and no warning; or, with `offline: stand_in`, neither file nor record but a warning.

    Raises:
        RequestError: `weights_dir` does not exist, or no weights are found and `offline` is `fail`.
    """
    name = parameters.model
    if named := named_folder("weights_dir", parameters.weights_dir, "CIFAR_REPORT_WEIGHTS"):
        file = named[0] / f"{name}.safetensors"
        if file.is_file():
            return file, _record("local file", file, "local file"), None
    try:
        file = _downloaded(name, fetch=download)
        return file, _record("torchvision", file, "official"), None
    except DownloadError as error:
        if parameters.offline == "fail":
            raise RequestError(
                f"No ImageNet weights found for {name} ({error}); put {name}.safetensors into weights_dir, or set "
                "offline=stand_in to initialize randomly"
            ) from None
    return None, None, f"No ImageNet weights found for {name}: initialized randomly, all layers trained"


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill a network with its weights from a file, safetensors or torch's own, in float32; refuse any other file."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            import torch

            state = torch.load(file, map_location="cpu", weights_only=True)
        # Stored in half precision or not, the model computes in float32.
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except Exception as error:  # every library has its own class for a damaged file
        reason = first_line(error)
        raise RequestError(
            f"{file} does not hold the weights of {type(model).__name__} ({reason}); delete it and fetch it again"
        ) from None


def _downloaded(name: str, *, fetch: bool) -> Path:
    """torchvision's copy of the weights, fetched if need be."""
    url = DOWNLOADS[name]
    file = _torch_hub() / "checkpoints" / url.rpartition("/")[2]
    prefix = file.stem.rpartition("-")[2]
    if not file.is_file():
        if not fetch:
            raise DownloadError("this command downloads nothing")
        return download(url, file.parent, file.name, digest=f"sha256:{prefix}")
    if not _sha256(file, file.stat().st_mtime_ns).startswith(prefix):
        raise RequestError(f"{file} is damaged (wrong checksum); delete it to have it fetched again")
    return file


def _torch_hub() -> Path:
    """`torch.hub.get_dir()` without importing torch."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub"


def _record(source: str, file: Path, provenance: Provenance) -> WeightsRecord:
    digest = _sha256(file, file.stat().st_mtime_ns)
    return WeightsRecord(name="imagenet", source=source, sha256=digest, provenance=provenance)


@cache
def _sha256(file: Path, modified: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
