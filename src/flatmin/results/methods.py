"""How the numbers are made, for a reader of the report."""

from __future__ import annotations


def method_lines(sharpness: str) -> list[str]:
    """What holds for every number of the report; ``sharpness`` says what that was measured with (empty: it was not)."""
    measured = f"Sharpness is the rise of the training loss within a ball around the weights: {sharpness}."
    return [*LINES, *([measured] if sharpness else [])]


LINES = (
    "The result is the last epoch. Early stopping takes the epoch with the best validation accuracy. Test data choose "
    "no epoch, no setting and no method to be judged.",
    "Methods at one seed share initial weights, batches, augmentation and labels, so they are compared in pairs. "
    "Intervals are 95% Student-t over seeds, tests two-sided at 0.05. They cover what another seed would change, not "
    "the choice of the test images.",
    "A run that diverged (loss or gradients were not finite) or collapsed (its final training accuracy is no better "
    "than guessing) is a result and counted as it is. Where one enters a comparison, a sign-flip permutation test "
    "decides instead of t. Failures alone show no method better and reproduce nothing: the seeds without one must show "
    "it too, unless a claim speaks of failures.",
    "The baseline of a row is the better of the table's baselines by mean test accuracy (at the last epoch, and at the "
    "early-stopped one where that is compared), as in the paper. This one choice on test data works against the method "
    "that is compared with it.",
    "The first line counts the comparisons of SAM, or of the study's first ascent, after Holm's adjustment over them. "
    "Every other p is that of its own test, but for those of the primary claims.",
    "A claim is decided by a rule that was written down before the runs. A margin, where a claim has one, is half the "
    "published effect unless it states another, and a difference is equivalent to none within it by two one-sided "
    "tests, which are not adjusted. What each verdict means stands under Claims.",
    "A published spread that is a 95% half-width becomes a standard error by dividing by 1.96; our difference is then "
    "compared with the published one by Welch's test.",
    "Primary claims share one family-wise error rate (Holm). All others are exploratory: about one in twenty is "
    "significant by chance.",
    "Whether sharpness goes with test error is Kendall's tau over the methods of a row, each the mean of its seeds, "
    "tested by relabelling the methods: more seeds of the same methods are no new evidence.",
    "Cost is counted in per-example gradient evaluations, which do not depend on the machine.",
)
