"""Metrics against values computed by hand, torch, scikit-learn, and a slow second implementation."""

import json
import math

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor

from flatmin.evaluation.metrics import classification_metrics, expected_calibration_error


def random_predictions(n: int = 500, k: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(n, k, generator=generator)
    return logits, torch.randint(k, (n,), generator=generator)


def test_by_hand() -> None:
    logits = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.375, 0.625], [0.125, 0.875]], dtype=torch.float64).log()
    metrics = classification_metrics(logits, torch.tensor([0, 1, 1, 1]), bins=4)
    assert metrics["accuracy"] == 0.75
    assert metrics["error"] == 0.25
    assert metrics["nll"] == pytest.approx(-math.log(0.75 * 0.25 * 0.625 * 0.875) / 4, rel=1e-14)
    # bin (0.5, 0.75]: 3 samples, 2 right, confidences 0.75 0.75 0.625; bin (0.75, 1]: 1 sample, right, 0.875
    assert metrics["ece"] == pytest.approx((abs(2 - 2.125) + abs(1 - 0.875)) / 4, rel=1e-12)
    assert metrics["nonfinite"] == 0


def test_against_torch_and_sklearn() -> None:
    logits, labels = random_predictions()
    metrics = classification_metrics(logits, labels)
    probabilities = logits.double().softmax(1)
    assert metrics["nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(7)), rel=1e-12)
    assert metrics["nll"] == pytest.approx(torch.nn.functional.cross_entropy(logits.double(), labels).item(), rel=1e-12)
    assert metrics["accuracy"] == accuracy_score(labels, logits.argmax(1))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_against_a_slow_definition(bins: int) -> None:
    logits, labels = random_predictions()
    confidence, predicted = logits.double().softmax(1).max(1)
    expected = 0.0
    for b in range(1, bins + 1):
        members = [i for i, p in enumerate(confidence.tolist()) if (b - 1) / bins < p <= b / bins]
        if members:
            accuracy = sum(int(predicted[i] == labels[i]) for i in members) / len(members)
            mean_confidence = sum(confidence[i].item() for i in members) / len(members)
            expected += len(members) / len(labels) * abs(accuracy - mean_confidence)
    assert classification_metrics(logits, labels, bins=bins)["ece"] == pytest.approx(expected, rel=1e-12)


def test_one_bin_is_the_gap_between_mean_confidence_and_accuracy() -> None:
    logits, labels = random_predictions()
    metrics = classification_metrics(logits, labels, bins=1)
    confidence = logits.double().softmax(1).amax(1).mean().item()
    assert metrics["ece"] == pytest.approx(abs(metrics["accuracy"] - confidence), rel=1e-12)


def test_upper_edge_belongs_to_the_bin() -> None:
    confidence = torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64)
    # bins (0, 0.2], (0.2, 0.4], ..., (0.8, 1]: each sample alone, so all three gaps count
    correct = torch.tensor([True, False, True])
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx((0.8 + 0.4 + 0.0) / 3, rel=1e-14)


def test_perfectly_calibrated_data_has_no_calibration_error() -> None:
    # of 20 samples with confidence c in {0.55, 0.75, 0.95}, exactly 20 c are right
    logits, labels = [], []
    for confidence in (0.55, 0.75, 0.95):
        right = round(20 * confidence)
        logits += [[math.log(confidence), math.log(1 - confidence)]] * 20
        labels += [0] * right + [1] * (20 - right)
    metrics = classification_metrics(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels))
    assert metrics["ece"] == pytest.approx(0.0, abs=1e-14)


def test_labels_drawn_from_the_predicted_distribution_are_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40_000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    ece = classification_metrics(logits, labels)["ece"]
    assert ece is not None
    assert ece < 0.01
    overconfident = classification_metrics(3 * logits, labels)["ece"]
    assert overconfident is not None
    assert overconfident > 0.2


def test_order_of_the_samples_changes_no_bit() -> None:
    logits, labels = random_predictions()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    assert classification_metrics(logits[order], labels[order]) == classification_metrics(logits, labels)


def test_number_of_threads_changes_no_bit() -> None:
    logits, labels = random_predictions(n=60_000)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = classification_metrics(logits, labels)
        torch.set_num_threads(2)
        assert classification_metrics(logits, labels) == one
    finally:
        torch.set_num_threads(before)


def test_extreme_but_finite_logits_have_a_finite_likelihood() -> None:
    metrics = classification_metrics(torch.tensor([[3e38, -3e38], [0.0, 0.0]]), torch.tensor([1, 0]))
    assert metrics["nll"] == pytest.approx(3e38, rel=1e-6)
    assert metrics["accuracy"] == 0.5  # of equal logits, the first class


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_model_is_wrong_where_it_is_not_finite(bad: float) -> None:
    logits = torch.tensor([[2.0, 1.0], [bad, 0.0], [0.0, 1.0], [bad, bad]])
    metrics = classification_metrics(logits, torch.tensor([0, 0, 0, 0]))
    assert metrics == {"accuracy": 0.25, "error": 0.75, "nll": None, "ece": None, "nonfinite": 2}
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    ("logits", "labels", "bins", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), 15, r"0\.\.2"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), 15, r"0\.\.2"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), 15, "integers"),
        (torch.zeros(2, 3), torch.tensor([0]), 15, r"\[2, 3\] and \[1\]"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 15, "no predictions"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), 0, "bins"),
    ],
)
def test_what_does_not_fit_is_refused(logits: Tensor, labels: Tensor, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_metrics(logits, labels, bins=bins)
