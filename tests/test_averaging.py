import torch
from torch import nn

from cifar_report.data.dataset import load_dataset
from cifar_report.training import averaging
from cifar_report.training.averaging import DECAY, EVERY, Lookahead
from cifar_report.training.build import build_model
from cifar_report.training.loop import train


def test_every_few_steps_the_weights_return_to_an_average():
    """As Zhang et al. 2019, algorithm 1, write it: the slow weights go a part of the way to the fast ones."""
    layer = nn.Linear(2, 2)
    lookahead = Lookahead(layer)
    slow = layer.weight.detach().clone()
    for step in range(1, 3 * EVERY + 1):
        with torch.no_grad():
            layer.weight += step
        fast = layer.weight.detach().clone()
        lookahead.step(0.5)
        if step % EVERY:
            assert torch.equal(layer.weight, fast)
        else:
            slow = slow + (1 - DECAY**EVERY * 0.5**3) * (fast - slow)
            assert torch.allclose(layer.weight, slow)
            slow = layer.weight.detach().clone()


def test_it_follows_at_once_at_the_start_and_averages_batchnorm_too():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    lookahead = Lookahead(network)
    with torch.no_grad():
        network[0].weight.add_(1)
        network[1].running_mean.fill_(8)
        network[1].num_batches_tracked.fill_(3)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    lookahead.join(0.0)
    assert all(torch.allclose(value, state[name]) for name, value in network.state_dict().items())
    network[1].running_mean.fill_(0)
    lookahead.join(1.0)
    assert torch.allclose(network[1].running_mean, torch.full((2,), 8 * DECAY**EVERY))
    assert network[1].num_batches_tracked == 3


def test_a_training_with_it_ends_elsewhere_and_with_no_average_where_it_was(tiny, monkeypatch):
    def weights(**given):
        parameters = tiny(model="net", batch_size=16, epochs=2, **given)
        model = build_model(parameters)[0]
        train(model, load_dataset(parameters), parameters)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    plain = weights()
    assert not torch.allclose(weights(lookahead=True), plain, atol=1e-5)
    monkeypatch.setattr(averaging, "DECAY", 0.0)
    assert torch.allclose(weights(lookahead=True), plain, atol=1e-6)
