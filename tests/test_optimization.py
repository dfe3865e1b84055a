from pathlib import Path

import pytest
import torch
from torch import optim
from torch.utils.flop_counter import FlopCounterMode

from cifar_report.experiments.catalog import load_experiment
from cifar_report.experiments.schema import allowed_values, validate
from cifar_report.training.build import build_model
from cifar_report.training.cost import training_pflop
from cifar_report.training.optimization import build_optimizer, build_schedule
from cifar_report.training.optimizers.muon import orthogonal

CASES = {
    "sgd": ({"lr": 0.01}, lambda w: optim.SGD(w, lr=0.01, momentum=0.9, nesterov=True)),
    "adam": ({"lr": 0.001, "momentum": 0, "nesterov": False}, lambda w: optim.Adam(w)),
    "rmsprop": ({"lr": 0.001, "momentum": 0, "nesterov": False}, lambda w: optim.RMSprop(w, lr=0.001)),
    "adamax": ({"lr": 0.002, "momentum": 0, "nesterov": False}, lambda w: optim.Adamax(w)),
}


def test_every_name_of_the_schema_is_tested():
    assert [*CASES, "muon"] == allowed_values("optimizer")


@pytest.mark.parametrize("name", [*CASES, "muon"])
def test_a_first_step_that_overflows_in_float16_is_skipped_without_a_trace(name):
    """Fused SGD of PyTorch leaves its momentum uninitialized then: here, as large as what lay in memory before."""
    before = torch.linspace(-1, 1, 4096).reshape(64, 64)
    weights = {overflow: torch.nn.Parameter(before.clone()) for overflow in (True, False)}
    for overflow, weight in weights.items():
        spoilt = [torch.full((64, 64), 1e30) for _ in range(50)]
        del spoilt  # memory to be used again
        more = CASES[name][0] if name in CASES else {"lr": 0.1, "nesterov": False, "model": "fastnet"}
        optimizer = build_optimizer([weight], validate({"optimizer": name, **more}))
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        for step in range(4 if overflow else 3):
            optimizer.zero_grad()
            scaler.scale((weight * (float("inf") if overflow and not step else 1e-3)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            if overflow and not step:
                assert torch.equal(weight, before)
    assert not torch.equal(weights[True], before)
    assert torch.equal(weights[True], weights[False])


def muon(weights, **more):
    return build_optimizer(
        weights, validate({"model": "fastnet", "optimizer": "muon", "lr": 0.1, "nesterov": False, **more})
    )


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (40, 2, 3, 3), (18, 2, 3, 3)])  # wide, tall, square
def test_muon_turns_a_step_of_a_convolution_to_a_matrix_with_equal_singular_values(shape):
    torch.manual_seed(0)
    step = orthogonal(torch.randn(shape)).flatten(1)
    values = torch.linalg.svdvals(step.float())
    assert step.shape[0] == shape[0]
    assert values.max() < 1.3
    assert values.median() > 0.6
    exact = torch.randn(shape).flatten(1)
    u, _, v = torch.linalg.svd(exact, full_matrices=False)
    assert torch.nn.functional.cosine_similarity((u @ v).flatten(), orthogonal(exact.reshape(shape)).flatten(), 0) > 0.9


def test_most_singular_values_of_muons_step_are_near_one():
    """As notebook 8 says of a layer of the fast network."""
    torch.manual_seed(0)
    step = orthogonal(torch.randn(128, 128, 3, 3)).flatten(1).float()
    values = torch.linalg.svdvals(step)
    assert ((values > 0.7) & (values < 1.2)).float().mean() > 0.5
    assert values.max() < 1.21
    assert 0.7 < step.norm() / len(step) ** 0.5 < 1.2  # about as long as the weights, whose length is the root of 128


def test_rmsprop_reaches_a_minimum_and_does_not_stay():
    """As notebook 3 says of one weight with the loss w² / 2."""
    notebook = Path(__file__).parents[1] / "notebooks" / "03_optimizers.ipynb"
    assert "after 2,000 steps the weight jumps between about +0.025 and -0.025" in notebook.read_text(encoding="utf-8")
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    descent, path = optim.RMSprop([weight], lr=0.05), []
    for _ in range(2000):
        descent.zero_grad()
        (weight**2 / 2).backward()
        descent.step()
        path.append(weight.item())
    assert min(path[:100]) > 0
    assert path[39] < 1e-9
    assert [abs(weight) for weight in path[-4:]] == pytest.approx([0.025] * 4, rel=0.03)


@pytest.mark.skipif(not hasattr(optim, "Muon"), reason="this PyTorch has no Muon")
def test_muons_steps_are_those_of_pytorchs_muon_on_flat_convolutions():
    """PyTorch's takes matrices only, and does not keep the weights' length."""
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    theirs = torch.nn.Parameter(torch.zeros(8, 36))
    mine = muon([ours], momentum=0.6)
    reference = optim.Muon([theirs], lr=0.1, weight_decay=0, momentum=0.6, nesterov=True, ns_steps=3)
    for _ in range(4):
        gradient = torch.randn(8, 4, 3, 3)
        before = ours.detach() * 8**0.5 / ours.detach().norm()
        ours.grad, theirs.grad = gradient, gradient.flatten(1).clone()
        flat = theirs.detach().clone()
        mine.step()
        reference.step()
        assert torch.allclose((ours - before).flatten(1), theirs - flat, atol=2e-3)


def test_muon_itself_computes_two_per_cent_more():
    """As docs/findings.md says of EXP051: the matrix products of a step, against the training's own operations."""
    e = load_experiment("EXP051")
    model, counter = build_model(e)[0], FlopCounterMode(display=False)
    convolutions = [weight for name, weight in model.named_parameters() if weight.ndim == 4 and name != "first.weight"]
    with counter:
        for weight in convolutions:
            orthogonal(weight)
    step = training_pflop(model, e, images=e.batch_size, frozen_once=False) / e.epochs
    assert counter.get_total_flops() / 1e15 / step == pytest.approx(0.02, abs=0.005)


def test_muon_trains_what_is_no_convolution_by_sgd():
    torch.manual_seed(0)
    shapes = {"bias": (4,), "head": (3, 4)}
    for shape, rate in zip(shapes.values(), (0.053, 0.00083), strict=True):
        ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
        lr = 200 * rate
        mine = muon([ours], batch_size=200, weight_decay=0.004)
        reference = optim.SGD([theirs], lr=lr, momentum=0.85, nesterov=True, weight_decay=0.004 / lr)
        for _ in range(3):
            ours.grad = torch.randn(shape)
            theirs.grad = ours.grad.clone()
            mine.step()
            reference.step()
        assert torch.allclose(ours, theirs, rtol=1e-5)


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
    if name == "step":
        assert rates == pytest.approx([0.1] * 50 + [0.01] * 25 + [0.001] * 25)
    if name == "linear":
        assert rates == pytest.approx([0.1 * (100 - step) / 100 for step in range(100)])
    if name in ("linear", "cosine", "one_cycle", "triangular"):
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
