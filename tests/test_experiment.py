import pytest

from cifar_report.experiments.errors import RequestError, first_line
from cifar_report.experiments.schema import (
    PLACE_PARAMETERS,
    Experiment,
    allowed_values,
    from_variables,
    shown,
    validate,
)

CONTRACT = [
    "experiment",
    "seed",
    "dataset",
    "data_dir",
    "train_limit",
    "test_limit",
    "validation",
    "holdout_size",
    "fold",
    "folds",
    "model",
    "weights",
    "weights_dir",
    "trainable",
    "frozen_batchnorm",
    "init",
    "init_layers",
    "whiten",
    "image_size",
    "augment",
    "mix",
    "normalize",
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "momentum",
    "nesterov",
    "weight_decay",
    "schedule",
    "label_smoothing",
    "lookahead",
    "test_time_flip",
    "test_time_shift",
    "precision",
    "compile",
    "device",
    "offline",
    "output_dir",
]


def test_parameters_are_those_of_the_contract():
    assert list(Experiment.model_fields) == CONTRACT


def test_every_parameter_is_described():
    assert all(len(field.description or "") > 10 for field in Experiment.model_fields.values())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"lr": "1e-3"}, {"lr": 0.001}),
        ({"epochs": "5"}, {"epochs": 5}),
        ({"nesterov": "false"}, {"nesterov": False}),
        ({"train_limit": "null"}, {"train_limit": None}),
        ({"weights": "none"}, {"weights": None}),
        ({"augment": "rotation, crop"}, {"augment": ("rotation", "crop")}),
        ({"augment": "[horizontal_flip]"}, {"augment": ("horizontal_flip",)}),
        ({"augment": "none"}, {"augment": ()}),
        ({"augment": ["crop"]}, {"augment": ("crop",)}),
    ],
)
def test_texts_become_the_right_types(given, expected):
    experiment = validate(given)
    for name, value in expected.items():
        assert getattr(experiment, name) == value
        assert type(getattr(experiment, name)) is type(value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epoch": 3}, ["unknown parameter 'epoch'", "did you mean 'epochs'?"]),
        ({"Epochs": 3}, ["unknown parameter 'Epochs'", "did you mean 'epochs'?"]),
        ({"epochs": 2.5}, ["'epochs'", "2.5"]),
        ({"epochs": "many"}, ["'epochs'", "'many'"]),
        ({"epochs": 0}, ["'epochs'", "greater than or equal to 1"]),
        ({"epochs": True}, ["'epochs'", "must be a number"]),
        ({"lr": float("nan")}, ["'lr'"]),
        ({"lr": -1}, ["'lr'", "greater than 0"]),
        ({"nesterov": "perhaps"}, ["'nesterov'", "'perhaps'"]),
        ({"model": "lenett"}, ["'model'", "did you mean 'lenet'?"]),
        ({"augment": ["rotaton"]}, ["'augment'", "rotation"]),
        ({"device": "tpu"}, ["'device'"]),
        ({"experiment": "../x"}, ["'experiment'"]),
        ({"seed": -1}, ["'seed'"]),
        ({"learning_rate": 0.1}, ["unknown parameter 'learning_rate'", "see 'lr', or `cifar-report parameters`"]),
        ({"l2": 0.1}, ["unknown parameter 'l2'", "see 'weight_decay', or"]),
        ({"import os": 1}, ["unknown parameter 'import os'"]),
        ({"x=1;y": 1}, ["unknown parameter 'x=1;y'"]),
        ({1: 1}, ["unknown parameter '1'"]),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(given, words):
    with pytest.raises(RequestError) as error:
        validate(given, where="params/mine.yaml")
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "params/mine.yaml" in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"model": "resnet18", "trainable": "head"}, "must be pretrained"),
        ({"model": "resnet18", "weights": "imagenet", "init": "xavier_normal"}, "would erase"),
        ({"model": "lenet", "weights": "imagenet"}, "weights"),
        ({"fold": 1}, "fold .from 0. and folds"),
        ({"folds": 5}, "fold .from 0. and folds"),
        ({"model": "resnet18", "weights": "imagenet", "trainable": "head", "mix": "mixup"}, "set mix=none"),
        ({"fold": 5, "folds": 5, "validation": "fold"}, "between 0 and folds - 1"),
        ({"fold": 1, "folds": 5}, "validation=fold"),
        ({"validation": "fold"}, "validation=fold"),
        ({"optimizer": "adam", "momentum": 0}, "nesterov belongs to sgd"),
        ({"optimizer": "adam", "nesterov": False}, "momentum belongs to sgd, rmsprop and muon"),
        ({"momentum": 0}, "nesterov needs a momentum"),
        ({"image_size": 64}, "takes 32-pixel images"),
        ({"augment": ["crop", "crop"]}, "twice"),
        ({"model": "vgg16", "image_size": 16}, "must be 32 or more"),
        (
            {"model": "fastnet", "optimizer": "muon", "nesterov": False, "schedule": "triangular"},
            "all weights one rate",
        ),
        ({"model": "lenet", "optimizer": "muon", "nesterov": False}, "muon has rates for fastnet, fastnet_wide"),
    ],
)
def test_contradictions_are_refused(given, word):
    with pytest.raises(RequestError, match=word):
        validate(given)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01, "0.01"), (1.0, "1"), (1e-5, "1e-05"), (0.0123456789, "0.0123456789"), (None, "null"), (True, "true")],
)
def test_values_are_shown_as_the_command_line_takes_them(value, text):
    assert shown(value) == text
    if isinstance(value, float):
        assert validate({"experiment": "EXP003", "lr": text}).lr == value


def test_places_do_not_count_as_results():
    experiment = validate({"data_dir": "/a", "device": "cpu", "output_dir": "b", "offline": "stand_in"})
    assert experiment.result_parameters() == Experiment().result_parameters()
    assert PLACE_PARAMETERS.isdisjoint(experiment.result_parameters())


def test_differences_name_what_changed():
    assert validate({"lr": 0.1, "seed": 3}).differences(Experiment()) == {"lr": (0.01, 0.1)}


def test_what_acts_on_neither_side_is_no_difference():
    idle = validate({"holdout_size": 1000, "init_layers": "linear"})
    assert idle.differences(Experiment()) == {}
    held_out = validate({"holdout_size": 1000, "validation": "holdout"})
    assert held_out.differences(Experiment()) == {"validation": ("test", "holdout"), "holdout_size": (5000, 1000)}


def test_from_variables_takes_parameters_and_leaves_what_is_no_plain_value():
    assert from_variables({"epochs": 3, "figures": object(), "_": 1, "In": [""], "Out": {}}).epochs == 3


def test_from_variables_says_what_to_do_where_a_parameter_has_become_something_else():
    with pytest.raises(RequestError, match="dataset is no parameter any more: execute the parameters cell again"):
        from_variables({"run": object(), "epochs": 3, "dataset": object()})


def test_from_variables_refuses_a_misspelt_parameter():
    with pytest.raises(RequestError, match="unknown parameter 'epoch' in the notebook's parameters cell"):
        from_variables({"epochs": 20, "epoch": 3})


def test_from_variables_lets_a_notebook_have_variables_of_its_own_once_it_runs():
    assert from_variables({"run": object(), "titles": ["a"], "epochs": 3}).epochs == 3
    with pytest.raises(RequestError, match="'epoch'"):
        from_variables({"run": object(), "epoch": 3})


def test_identifiers_are_upper_case():
    assert validate({"experiment": "exp003"}).experiment == "EXP003"


def test_allowed_values_of_words_and_numbers():
    assert allowed_values("optimizer")[:4] == ["sgd", "adam", "rmsprop", "adamax"]
    assert allowed_values("augment")[:3] == ["horizontal_flip", "rotation", "crop"]
    assert allowed_values("epochs") == []
    assert allowed_values("train_limit") == []


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (ValueError("\n  one\ntwo"), "one"), (MemoryError(), "MemoryError")],
)
def test_an_errors_first_line_or_its_class(error, line):
    assert first_line(error) == line
