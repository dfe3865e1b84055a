from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics

from cifar_report.data.dataset import Split, load_dataset
from cifar_report.training.build import build_model
from cifar_report.training.evaluation import Evaluation, evaluate


@pytest.fixture
def evaluation() -> Evaluation:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (500,), generator=generator)
    logits = torch.randn(500, 10, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 10)
    return Evaluation(logits, labels)


def test_figures_are_scikit_learns(evaluation):
    labels, predicted = evaluation.labels.numpy(), evaluation.predicted.numpy()
    assert evaluation.accuracy == metrics.accuracy_score(labels, predicted)
    assert evaluation.correct == metrics.accuracy_score(labels, predicted, normalize=False)
    assert evaluation.loss == pytest.approx(
        metrics.log_loss(labels, evaluation.logits.double().softmax(1).numpy()), rel=1e-5
    )
    predictions = evaluation.predictions(np.arange(500))
    assert (predictions.confusion_matrix() == metrics.confusion_matrix(labels, predicted)).all()


def test_confident_mistakes_are_wrong_and_in_order(evaluation):
    predictions = evaluation.predictions(np.arange(500))
    mistakes = predictions.confident_mistakes(10)
    assert len(mistakes) == 10
    assert (predictions.predicted[mistakes] != predictions.labels[mistakes]).all()
    probabilities = predictions.confidence[mistakes]
    assert (np.diff(probabilities) <= 0).all()
    expected = evaluation.logits.softmax(1).max(1).values.numpy()
    assert probabilities == pytest.approx(expected[mistakes], rel=1e-2)  # logits are kept as float16
    wrong = (evaluation.predicted != evaluation.labels).numpy()
    assert probabilities[0] == pytest.approx(expected[wrong].max(), rel=1e-2)


def test_a_perfect_model_makes_no_mistakes():
    labels = torch.arange(10)
    evaluation = Evaluation(20 * torch.eye(10), labels)
    assert len(evaluation.predictions(np.arange(10)).confident_mistakes(5)) == 0
    assert evaluation.accuracy == 1.0


@pytest.mark.parametrize("size", [32, 96])
def test_evaluation_in_batches_is_evaluation_at_once(tiny, size, monkeypatch):
    monkeypatch.setattr("cifar_report.training.evaluation.EVALUATION_BATCH", 20)
    parameters = tiny(model="mobilenet_v2", image_size=size, test_limit=40)
    torch.manual_seed(0)
    model, _, _ = build_model(parameters)
    dataset = load_dataset(parameters)
    batched = evaluate(model, dataset.test, parameters)
    monkeypatch.setattr("cifar_report.training.evaluation.EVALUATION_BATCH", 100_000)
    assert torch.allclose(batched.logits, evaluate(model, dataset.test, parameters).logits, atol=1e-5)
    assert not batched.logits.requires_grad


def test_flip_averages_the_logits_of_an_image_and_its_mirror_image(tiny):
    parameters = tiny(model="lenet", test_limit=40)
    model, dataset = build_model(parameters)[0], load_dataset(parameters)
    mirrored = Split(dataset.test.images.flip(3), dataset.test.labels)
    plain, other = (evaluate(model, split, parameters).logits for split in (dataset.test, mirrored))
    asked = parameters.model_copy(update={"test_time_flip": True})
    both = evaluate(model, dataset.test, asked, test_time=True).logits
    assert torch.equal(evaluate(model, dataset.test, asked).logits, plain)  # as validation is
    assert torch.allclose(both, (plain + other) / 2, atol=1e-6)
    assert not torch.allclose(both, plain)


@pytest.mark.parametrize("flip", [False, True])
def test_shift_averages_the_logits_of_an_image_and_of_two_shifted_by_a_pixel(tiny, flip):
    parameters = tiny(model="lenet", test_limit=40, test_time_flip=flip)
    model, dataset = build_model(parameters)[0], load_dataset(parameters)
    rows = [np.abs(np.arange(32) + by) for by in (-1, 0, 1)]  # mirrored at the edges
    rows = [np.minimum(row, 62 - row) for row in rows]
    before, plain, after = (
        evaluate(
            model, replace(dataset.test, images=dataset.test.images[:, :, row][..., row]), parameters, test_time=True
        )
        for row in rows
    )
    asked = parameters.model_copy(update={"test_time_shift": True})
    seen = evaluate(model, dataset.test, asked, test_time=True)
    assert torch.allclose(seen.logits, plain.logits / 2 + before.logits / 4 + after.logits / 4, atol=1e-6)
    assert not torch.allclose(seen.logits, plain.logits)


def test_logits_beyond_float16_have_a_confidence():
    logits = torch.tensor([[1e6, -1e6, 0.0], [9e5, 8e5, 7e5]])
    with np.errstate(over="ignore"):
        predictions = Evaluation(logits, torch.tensor([0, 1])).predictions(np.arange(2))
    assert predictions.confidence == pytest.approx([1, 1 / 3])
    assert predictions.confident_mistakes(5).tolist() == [1]
