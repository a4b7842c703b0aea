"""Accuracy, likelihood and calibration of predictions.

Everything is computed in float64, and sums are exactly rounded (`math.fsum`), so that a metric does not depend on the
order of the samples nor on the number of threads.
"""

import math

import torch
from torch import Tensor


def classification_metrics(logits: Tensor, labels: Tensor, *, bins: int = 15) -> dict[str, float | None]:
    """Measure predictions against labels.

    A model that diverged is still a result: a sample whose logits are not all finite counts as wrong, and once there
    is one, likelihood and calibration are not defined and are None, since JSON has no inf.

    Args:
        logits: [n, k], any floating-point type.
        labels: class indices [n], integers in 0..k-1.
        bins: number of bins of the calibration error.

    Returns:
        ``accuracy`` and ``error``, fractions that sum to 1 (among equal top logits, the first class is predicted);
        ``nll``, the mean negative log-likelihood in nats; ``ece``, the expected calibration error as a fraction
        (`expected_calibration_error`); ``nonfinite``, the number of samples whose logits are not all finite.

    Raises:
        ValueError: no samples, shapes that do not fit, labels out of range, or fewer than one bin.
    """
    _check(logits, labels, bins)
    logits, labels = logits.detach().double().cpu(), labels.cpu().long()
    finite = logits.isfinite().all(dim=1)
    correct = finite & (logits.argmax(dim=1) == labels)
    n, n_correct, n_nonfinite = len(labels), int(correct.sum()), int((~finite).sum())
    log_probabilities = logits.log_softmax(dim=1)
    top = log_probabilities.amax(dim=1).exp()
    return {
        "accuracy": n_correct / n,
        "error": (n - n_correct) / n,
        "nll": None if n_nonfinite else _mean(-log_probabilities.gather(1, labels[:, None]).squeeze(1)),
        "ece": None if n_nonfinite else expected_calibration_error(top, correct, bins=bins),
        "nonfinite": n_nonfinite,
    }


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> float | None:
    """Return the mean over samples of -sum_k p_k log q_k in nats: q from the ``logits`` [n, k], p ``probabilities``.

    None once a sample's logits are not all finite.

    Raises:
        ValueError: the shapes differ, or there are no samples.
    """
    if logits.shape != probabilities.shape or logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"need logits and probabilities [n, k], got {list(logits.shape)}, {list(probabilities.shape)}")
    if not logits.isfinite().all():
        return None
    log_q = logits.detach().double().cpu().log_softmax(dim=1)
    return _mean(-(probabilities.double().cpu() * log_q).sum(dim=1))


def expected_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 3).

    Samples are grouped by confidence into bins ((b - 1) / bins, b / bins] of equal width; with n_b samples in bin b,
    ECE = sum_b n_b / n |accuracy_b - confidence_b|.

    Args:
        confidence: probability of the predicted class, float64 [n] in (0, 1].
        correct: whether the prediction was right, bool [n].
        bins: number of bins.
    """
    inner_edges = torch.arange(1, bins, dtype=torch.float64) / bins
    bin_of = torch.bucketize(confidence, inner_edges)
    gaps = []
    for index in range(bins):
        members = bin_of == index
        gaps.append(abs(int(correct[members].sum()) - math.fsum(confidence[members].tolist())))
    return math.fsum(gaps) / len(confidence)


def _mean(values: Tensor) -> float:
    return math.fsum(values.tolist()) / len(values)


def _check(logits: Tensor, labels: Tensor, bins: int) -> None:
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels):
        raise ValueError(f"need logits [n, k] and labels [n], got {list(logits.shape)} and {list(labels.shape)}")
    if len(labels) == 0:
        raise ValueError("there are no predictions to measure")
    if labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ValueError(f"labels must be integers in 0..{logits.shape[1] - 1}, as there are {logits.shape[1]} logits")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
