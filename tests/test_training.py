from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.errors import RequestError
from cifar_report.experiments.schema import validate
from cifar_report.training import environment, loop, precision
from cifar_report.training.build import build_model
from cifar_report.training.environment import find_device
from cifar_report.training.evaluation import evaluate
from cifar_report.training.loop import DivergedError, prepared, shuffled_batches, train
from cifar_report.training.precision import amp_dtype, choose_precision


def trained(parameters):
    torch.manual_seed(parameters.seed)
    model, _, _ = build_model(parameters)
    dataset = load_dataset(parameters)
    history, evaluation, _ = train(model, dataset, parameters)
    return model, dataset, history, evaluation


def test_same_seed_same_run_to_the_last_bit(tiny):
    parameters = tiny(model="lenet", epochs=2, augment=["horizontal_flip", "rotation", "crop"])
    (one, _, first, e1), (two, _, second, e2) = trained(parameters), trained(parameters)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(e1.logits, e2.logits)
    for a, b in zip(first, second, strict=True):
        assert a.model_copy(update={"seconds": 0}) == b.model_copy(update={"seconds": 0})


def test_another_seed_is_another_run(tiny):
    assert not torch.equal(trained(tiny(seed=0))[3].logits, trained(tiny(seed=1))[3].logits)


def test_training_is_the_loop_of_the_textbook(tiny):
    """The same numbers as a loop written out here, without anything of the library but the model."""
    parameters = tiny(model="net", epochs=2, batch_size=32)
    model, dataset, history, _ = trained(parameters)

    torch.manual_seed(parameters.seed)
    reference, _, _ = build_model(parameters)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    x, y = dataset.train.images, dataset.train.labels
    order = torch.Generator().manual_seed(parameters.seed)
    for epoch in history:
        total, correct = 0.0, 0
        reference.train()
        for index in torch.randperm(100, generator=order).split(32):
            logits = reference(((x[index].float() - 127.5) / 127.5).contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
            correct += (logits.argmax(1) == y[index]).sum().item()
        reference.eval()
        with torch.no_grad():
            logits = reference((dataset.test.images.float() / 255 - 0.5) / 0.5)
        assert epoch.train_loss == pytest.approx(total / 100, rel=1e-4)
        assert epoch.train_accuracy == correct / 100
        assert epoch.validation_loss == pytest.approx(F.cross_entropy(logits, dataset.test.labels).item(), rel=1e-4)
        assert epoch.validation_accuracy == (logits.argmax(1) == dataset.test.labels).double().mean().item()
        assert epoch.lr == 0.01
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_network_learns_digits(tiny):
    _, _, history, evaluation = trained(tiny(model="lenet", train_limit=1000, test_limit=300, epochs=8, lr=0.05))
    assert history[-1].train_loss < history[0].train_loss
    assert evaluation.accuracy > 0.9


def test_constant_initialization_cannot_learn_features(tiny):
    model, _, _, _ = trained(tiny(model="net", init="constant", epochs=2))
    filters = model.conv1.weight.flatten(1)
    assert torch.allclose(filters, filters[:1].expand_as(filters))  # all filters are still the same


def test_frozen_layers_do_not_change(tiny):
    parameters = tiny(model="resnet18", weights="imagenet", trainable="head", offline="stand_in")
    torch.manual_seed(0)
    model, _, _ = build_model(tiny(model="resnet18"))
    from cifar_report.training.frozen import freeze

    freeze(model, "resnet18", "head")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, load_dataset(parameters), parameters)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_on_epoch_is_called_after_every_epoch(tiny):
    torch.manual_seed(0)
    parameters, seen = tiny(epochs=3), []
    train(build_model(parameters)[0], load_dataset(parameters), parameters, on_epoch=seen.append)
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]


def test_one_line_an_epoch_and_no_bar_without_a_terminal(tiny, capfd):
    trained(tiny(epochs=2))
    out, err = capfd.readouterr()
    assert [line.partition("  training")[0] for line in out.splitlines()] == ["epoch   1/2", "epoch   2/2"]
    assert err == ""


def test_final_evaluation_is_the_last_validation(tiny):
    parameters = tiny(model="lenet")
    model, dataset, history, evaluation = trained(parameters)
    again = evaluate(model, dataset.test, parameters)
    assert torch.equal(again.logits, evaluation.logits)
    assert history[-1].validation_accuracy == evaluation.accuracy


def test_diverging_training_is_an_error_that_says_what_to_do(tiny):
    with pytest.raises(DivergedError, match=r"in epoch 1; try a smaller lr than 100"):
        trained(tiny(lr=100, momentum=0.99, batch_size=4))


def test_a_mac_names_its_processor(monkeypatch):
    monkeypatch.setattr(environment.sys, "platform", "darwin")
    monkeypatch.setattr(environment.subprocess, "check_output", lambda command, **more: "Apple M4\n")
    assert environment._device_name(torch.device("cpu")) == "Apple M4"


def test_a_validation_loss_that_is_not_finite_is_an_error_too(tiny, monkeypatch):
    def spoilt(*given, **more):
        found = evaluate(*given, **more)
        return replace(found, logits=found.logits * float("nan"))

    monkeypatch.setattr(loop, "evaluate", spoilt)
    with pytest.raises(DivergedError, match=r"the validation loss is nan in epoch 1; try a smaller lr than 0\.01"):
        trained(tiny())


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adamax"])
def test_other_optimizers_train(tiny, optimizer):
    _, _, history, _ = trained(
        tiny(model="lenet", optimizer=optimizer, lr=0.002, momentum=0, nesterov=False, train_limit=500, epochs=3)
    )
    assert history[-1].train_loss < history[0].train_loss


def test_schedule_moves_the_learning_rate(tiny):
    _, _, history, _ = trained(tiny(schedule="cosine", epochs=3))
    rates = [epoch.lr for epoch in history]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.01
    assert rates[-1] < 0.005


def test_label_smoothing_counts_in_training_alone(tiny):
    plain, smooth = (trained(tiny(label_smoothing=s)) for s in (0.0, 0.3))
    assert plain[2][0].train_loss != smooth[2][0].train_loss
    assert smooth[2][0].validation_loss == pytest.approx(smooth[3].loss)
    assert smooth[3].loss == pytest.approx(F.cross_entropy(smooth[3].logits, smooth[3].labels).item())


def test_mixed_precision_agrees_with_float32(tiny):
    results = [trained(tiny(model="lenet", precision=p, train_limit=500, epochs=3)) for p in ("float32", "bfloat16")]
    losses = [history[-1].train_loss for _, _, history, _ in results]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_batches_cover_every_image_once_and_no_batch_is_a_single_image():
    for count in (1, 63, 64, 65, 128, 129, 1000):
        batches = shuffled_batches(count, 64, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(batches).tolist()) == list(range(count))
        assert count == 1 or min(map(len, batches)) > 1


def test_batchnorm_survives_a_stray_image(tiny):
    trained(tiny(model="resnet18", train_limit=33, test_limit=10, batch_size=32))


def test_compiled_network_trains_to_the_same_result(tiny, monkeypatch):
    compiled: list[object] = []
    plain = torch.compile

    def without_code_generation(network):  # which takes a C++ compiler and minutes
        compiled.append(network)
        return plain(network, backend="eager")

    monkeypatch.setattr(torch, "compile", without_code_generation)
    results = [trained(tiny(model="lenet", epochs=2, compile=c)) for c in (False, True)]
    assert len(compiled) == 1
    (one, _, first, _), (two, _, second, _) = results
    assert [e.validation_accuracy for e in first] == [e.validation_accuracy for e in second]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(("cuda", "visible", "found"), [(True, "0", "cuda"), (False, "", "cpu"), (False, "-1", "cpu")])
def test_the_device_is_a_gpu_of_nvidia_or_the_cpu(monkeypatch, cuda, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(environment, "require_supported", lambda device: None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device().type == found
    assert find_device("cpu").type == "cpu"
    assert find_device("mps").type == "mps"  # only where it is asked for


@pytest.mark.parametrize("visible", ["0", "GPU-1b2c"])
def test_a_gpu_that_pytorch_does_not_reach_is_not_replaced_by_the_cpu(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="does not reach it"):
        find_device()
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "image_size", "fast", "expected"),
    [
        ("net", 32, True, "float32"),
        ("lenet", 32, True, "float32"),
        ("resnet18", 32, True, "bfloat16"),
        ("resnet18", 32, False, "float32"),
        ("mobilenet_v2", 32, True, "float32"),
        ("mobilenet_v2", 224, True, "bfloat16"),
        ("mobilenet_v2", 224, False, "float32"),
        ("efficientnet_b0", 32, True, "float32"),
    ],
)
def test_auto_precision_of_a_cpu_is_a_fixed_rule(monkeypatch, model, image_size, fast, expected):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: fast)
    parameters = validate({"model": model, "image_size": image_size})
    assert choose_precision(parameters, torch.device("cpu")) == expected
    assert choose_precision(parameters, torch.device("mps")) == "float32"


def test_precision_is_what_was_asked_for_where_it_was():
    for asked in ("float32", "bfloat16", "float16"):
        parameters = validate({"model": "resnet18", "precision": asked})
        assert {choose_precision(parameters, torch.device(name)) for name in ("cpu", "cuda", "mps")} == {asked}
    assert amp_dtype(validate({"precision": "float32"}), torch.device("cuda")) is None
    assert amp_dtype(validate({"precision": "bfloat16"}), torch.device("cpu")) is torch.bfloat16


@pytest.mark.parametrize(("bf16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_cuda_trains_in_mixed_precision(monkeypatch, bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert amp_dtype(validate({}), torch.device("cuda")) is expected


def test_float32_is_not_rounded_to_tf32_on_a_gpu(tiny):
    trained(tiny())
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_batches_prepared_together_are_those_prepared_alone(tiny, monkeypatch):
    parameters = tiny(batch_size=32)
    split = load_dataset(parameters).train
    batches = shuffled_batches(len(split), 32, torch.Generator().manual_seed(1))
    turns = torch.zeros(len(split), dtype=torch.int64)
    together = list(prepared(batches, split, parameters, torch.Generator(), turns))
    monkeypatch.setattr(loop, "PREPARED_IMAGES", 1)
    alone = list(prepared(batches, split, parameters, torch.Generator(), turns))
    for (inputs, labels), (inputs_alone, labels_alone) in zip(together, alone, strict=True):
        assert torch.equal(inputs, inputs_alone)
        assert torch.equal(labels, labels_alone)
        assert inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.data
@pytest.mark.slow
def test_net_learns_real_cifar10(real_data, tiny):
    """One epoch on all 50,000 images; chance is 10 %."""
    parameters = tiny(dataset="cifar10", data_dir=str(real_data), train_limit=None, test_limit=None)
    _, _, _, evaluation = trained(parameters)
    assert len(evaluation.labels) == 10_000
    assert evaluation.accuracy > 0.40


def test_evaluate_leaves_the_model_in_evaluation_mode(tiny):
    parameters = tiny(model="lenet")
    model, _, _ = build_model(parameters)
    model.train()
    evaluate(model, load_dataset(parameters).test, parameters)
    assert isinstance(model, nn.Module)
    assert not model.training
