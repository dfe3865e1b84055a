import pytest
import torch

from cifar_report.data.dataset import load_dataset
from cifar_report.experiments.schema import PRETRAINED_MODELS
from cifar_report.training import frozen as features
from cifar_report.training.build import build_model
from cifar_report.training.choices import chosen
from cifar_report.training.frozen import freeze, split_frozen, without_frozen_part
from cifar_report.training.loop import train


@pytest.fixture
def frozen_run(tiny, monkeypatch):
    """Parameters of a frozen run with made-up ImageNet weights, and a function that builds its model."""
    monkeypatch.setattr("cifar_report.training.build.find_weights", lambda parameters: (None, None, None))

    def make(model="resnet18", trainable="last_two_layers", **given):
        parameters = tiny(model=model, weights="imagenet", trainable=trainable, optimizer="adam", lr=0.001,
                          momentum=0.0, nesterov=False, **given)  # fmt: skip

        def build():
            torch.manual_seed(0)
            return build_model(parameters)[0]

        return parameters, build

    return make


@pytest.mark.parametrize("name", PRETRAINED_MODELS)
def test_stages_are_the_network(name):
    torch.manual_seed(0)
    model = chosen("model", name).build().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(torch.nn.Sequential(*chosen("model", name).stages(model))(images), model(images))


@pytest.mark.parametrize(
    ("name", "trainable", "kept"),
    [
        ("resnet18", "head", 10),
        ("resnet18", "last_two_layers", 7),  # up to layer3
        ("vgg16", "last_two_layers", 31 + 2 + 2),  # up to the first dropout
        ("mobilenet_v2", "last_two_layers", 19 + 2),
        ("resnet18", "all", 0),
    ],
)
def test_frozen_part_ends_where_something_learns_or_is_random(name, trainable, kept):
    model = chosen("model", name).build()
    freeze(model, name, trainable)
    frozen, rest = split_frozen(model, name)
    assert (len(frozen) if frozen is not None else 0) == kept
    if frozen is None:
        assert rest is model
        return
    learning = {id(p) for p in model.parameters() if p.requires_grad}
    assert not learning & {id(p) for p in frozen.parameters()}
    assert learning <= {id(p) for p in rest.parameters()}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("validation", ["test", "holdout"])
def test_computed_once_trains_the_same(frozen_run, name, validation):
    parameters, build = frozen_run(model=name, epochs=3, validation=validation, **(
        {"holdout_size": 300} if validation == "holdout" else {}))  # fmt: skip
    dataset = load_dataset(parameters)
    whole, once = build(), build()
    slow, _, _ = train(whole, dataset, parameters, frozen_once=False)
    fast, evaluation, _ = train(once, dataset, parameters)
    for a, b in zip(slow, fast, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-3)
        assert a.validation_loss == pytest.approx(b.validation_loss, rel=1e-3)
    assert evaluation.logits.shape == (len(dataset.validation), 10)
    for a, b in zip(whole.state_dict().values(), once.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-2)


def test_nothing_is_kept_where_images_change_or_memory_would_not_do(frozen_run, monkeypatch):
    parameters, build = frozen_run(augment=["horizontal_flip"])
    model, dataset = build(), load_dataset(parameters)
    assert without_frozen_part(model, dataset, parameters) == (model, dataset)
    parameters, _ = frozen_run(frozen_batchnorm="train")
    assert without_frozen_part(model, dataset, parameters) == (model, dataset)
    parameters, build = frozen_run()
    rest, kept = without_frozen_part(model, dataset, parameters)
    assert rest is not model
    assert kept.train.images.shape == (len(dataset.train), 256, 2, 2)
    assert kept.test is dataset.test  # the whole network is evaluated on them
    monkeypatch.setattr(features, "MOST_BYTES", 1000)
    assert without_frozen_part(model, dataset, parameters) == (model, dataset)
