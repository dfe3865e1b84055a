import hashlib
import io

import pooch
import pytest
import torch
from safetensors.torch import save_file

from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate
from cifar_report.training import weights
from cifar_report.training.build import build_model
from cifar_report.training.choices import chosen
from cifar_report.training.weights import find_weights

RESNET = {"model": "resnet18", "weights": "imagenet"}


def test_torch_hub_folder_is_torchs(monkeypatch, tmp_path):
    assert weights._torch_hub() == weights.Path(torch.hub.get_dir())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert weights._torch_hub() == weights.Path(torch.hub.get_dir())


@pytest.mark.parametrize(
    ("name", "first", "head", "inputs"),
    [("resnet18", "conv1.weight", "fc", 512), ("vgg16", "features.0.weight", "classifier.6", 4096)],
)
def test_local_weights_are_loaded_and_the_head_is_new(no_data, tmp_path, name, first, head, inputs):
    torch.manual_seed(1)
    state = chosen("model", name).build().state_dict()
    half = {key: t.half() if t.is_floating_point() else t for key, t in state.items()}
    save_file(half, tmp_path / f"{name}.safetensors")
    parameters = validate({"model": name, "weights": "imagenet", "weights_dir": str(tmp_path)})
    model, record, warning = build_model(parameters)
    assert warning is None
    assert record is not None
    assert record.source == "local file"
    assert record.sha256 == hashlib.sha256((tmp_path / f"{name}.safetensors").read_bytes()).hexdigest()
    assert torch.equal(model.get_parameter(first), state[first].half().float())
    assert model.get_parameter(first).dtype == torch.float32
    assert model.get_submodule(head).weight.shape == (10, inputs)


def test_damaged_local_weights_are_named(no_data, tmp_path):
    (tmp_path / "resnet18.safetensors").write_bytes(b"no weights")
    with pytest.raises(RequestError, match=r"resnet18\.safetensors does not hold the weights of ResNet"):
        build_model(validate({**RESNET, "weights_dir": str(tmp_path)}))


def test_weights_of_another_network_are_refused(no_data, tmp_path):
    save_file(chosen("model", "lenet").build().state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(RequestError, match="does not hold the weights"):
        build_model(validate({**RESNET, "weights_dir": str(tmp_path)}))


def test_missing_weights_dir_is_an_error(no_data, tmp_path):
    with pytest.raises(RequestError, match=r"weights_dir names the folder .* does not exist"):
        find_weights(validate({**RESNET, "weights_dir": str(tmp_path / "no"), "offline": "stand_in"}))


@pytest.mark.parametrize("fault", ["good", "wrong checksum", "cut half-way", "404", "server down"])
def test_download(no_data, server, monkeypatch, fault):
    stream = io.BytesIO()
    torch.manual_seed(2)
    state = chosen("model", "mobilenet_v2").build().state_dict()
    torch.save(state, stream)
    content = stream.getvalue()
    path = f"/mobilenet_v2-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    if fault == "wrong checksum":
        server.serve(path, content[:-1] + b"x")
    elif fault == "cut half-way":
        server.serve(path, content[:-1000], announced=len(content))
    elif fault == "good":
        server.serve(path, content)
    base = "http://127.0.0.1:9" if fault == "server down" else server.url.rstrip("/")
    monkeypatch.setitem(weights.DOWNLOADS, "mobilenet_v2", base + path)
    parameters = validate({"model": "mobilenet_v2", "weights": "imagenet"})
    if fault == "good":
        model, record, _ = build_model(parameters)
        assert record is not None
        assert record.source == "torchvision"
        assert torch.equal(model.features[0][0].weight, state["features.0.0.weight"])
        find_weights(parameters)
        assert server.requests == [f"GET {path}"]  # the second time it is there
        return
    with pytest.raises(RequestError, match="No ImageNet weights found for mobilenet_v2"):
        find_weights(parameters)
    folder = weights._torch_hub() / "checkpoints"
    assert not list(folder.glob("*"))


def test_a_download_has_its_name_only_once_it_is_verified(no_data, server, monkeypatch):
    content = b"weights"
    path = f"/mobilenet_v2-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.serve(path, content)
    monkeypatch.setitem(weights.DOWNLOADS, "mobilenet_v2", server.url.rstrip("/") + path)
    folder, real, seen = weights._torch_hub() / "checkpoints", pooch.file_hash, []
    monkeypatch.setattr(pooch, "file_hash", lambda *given: seen.append(list(folder.glob("[!.]*"))) or real(*given))
    file, _, _ = find_weights(validate({"model": "mobilenet_v2", "weights": "imagenet"}))
    assert seen == [[]]
    assert file.read_bytes() == content


def test_offline_stand_in_starts_from_random_values_and_says_so(no_data):
    parameters = validate({**RESNET, "trainable": "head", "offline": "stand_in"})
    model, record, warning = build_model(parameters)
    assert record is None
    assert warning is not None
    assert "initialized randomly" in warning
    assert all(p.requires_grad for p in model.parameters())


def test_damaged_weights_of_an_earlier_download_are_refused(no_data):
    name = weights.DOWNLOADS["mobilenet_v2"].rpartition("/")[2]
    file = weights._torch_hub() / "checkpoints" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cut")
    with pytest.raises(RequestError, match="is damaged"):
        find_weights(validate({"model": "mobilenet_v2", "weights": "imagenet"}))
