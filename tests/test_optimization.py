import pytest
import torch
from torch import optim

from cifar_report.experiments.schema import allowed_values, validate
from cifar_report.training.optimization import build_optimizer, build_schedule

CASES = {
    "sgd": ({"lr": 0.01}, lambda w: optim.SGD(w, lr=0.01, momentum=0.9, nesterov=True)),
    "adam": ({"lr": 0.001, "momentum": 0, "nesterov": False}, lambda w: optim.Adam(w)),
    "rmsprop": ({"lr": 0.001, "momentum": 0, "nesterov": False}, lambda w: optim.RMSprop(w, lr=0.001)),
    "adamax": ({"lr": 0.002, "momentum": 0, "nesterov": False}, lambda w: optim.Adamax(w)),
}


def test_every_name_of_the_schema_is_tested():
    assert list(CASES) == allowed_values("optimizer")


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_pytorchs_optimizer_as_the_experiments_use_it(name):
    given, reference = CASES[name]
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizers = [build_optimizer([ours], validate({"optimizer": name, **given})), reference([theirs])]
    for _ in range(5):
        gradient = torch.randn(5)
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(ours, theirs)


def test_frozen_weights_are_left_out():
    learning, frozen = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = build_optimizer([learning, frozen], validate({}))
    assert optimizer.param_groups[0]["params"] == [learning]


def test_weight_decay_is_passed_on():
    optimizer = build_optimizer([torch.nn.Parameter(torch.ones(1))], validate({"weight_decay": 0.1}))
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize("name", allowed_values("schedule"))
def test_schedule_over_a_whole_training(name):
    parameters = validate({"schedule": name, "epochs": 4, "lr": 0.1})
    optimizer = build_optimizer([torch.nn.Parameter(torch.ones(1))], parameters)
    schedule = build_schedule(optimizer, parameters, steps_per_epoch=25)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    if name == "constant":
        assert set(rates) == {0.1}
    else:
        assert max(rates) == pytest.approx(0.1, rel=0.01)
        assert 0 <= optimizer.param_groups[0]["lr"] < 0.1
    if name in ("cosine", "one_cycle", "triangular"):
        assert optimizer.param_groups[0]["lr"] < 0.001
    if name == "cosine":
        assert rates[50] == pytest.approx(0.05)
    if name == "one_cycle":
        assert rates[0] == pytest.approx(0.004)
        assert rates.index(max(rates)) in range(25, 35)
    if name == "triangular":  # straight lines up and down
        assert rates[0] == pytest.approx(0.02)
        assert rates.index(max(rates)) == 24
        assert rates[12] == pytest.approx(0.06, rel=0.02)
        assert rates[62] == pytest.approx(0.1 * 38 / 76, rel=0.01)
