"""What can be wrong with a run, by its learning curve: every rule with its threshold, and why that.

The rules are for one run. `diagnosis` counts them over seeds, and adds what only a comparison of methods shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flatmin.results.curves import RunCurve

Severity = Literal["trouble", "hint", "fine"]

# The thresholds: what each is and why stands with its symptom below. Shares and accuracies are fractions.
SKIPPED_SHARE = 0.01
WORSE_THAN_GUESSING = 1.1
REGAINED, REGAINED_OF_CHANCE = 0.25, 0.1
LEARNED, ROOM = 0.1, 0.02
FALL, FALL_JITTERS = 0.02, 3.0
MEMORISED = 0.1
LOSS_GOES_ON = 0.05
GAP, GAP_SDS = 0.1, 3.0
STILL_LEARNING, RISE_JITTERS, LEARNED_ENOUGH = 0.02, 2.0, 0.95
JUMPS = 0.02


@dataclass(frozen=True)
class Sign:
    """What a rule finds in one run: whether the symptom shows, and the numbers that it turns on."""

    shown: bool
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Symptom:
    """One thing that can be wrong.

    Attributes:
        id: Its name in files.
        title: Its name in print.
        severity: ``trouble``: the run is not worth its cost as it is; ``hint``: something to try; ``fine``: seen, and
            no reason to act.
        judge: The rule, for one run; None if the run does not let one tell.
        evidence: The rule's numbers in words, to be formatted.
        rule: The rule in words, with its threshold.
        why: Why that threshold.
    """

    id: str
    title: str
    severity: Severity
    judge: Callable[[RunCurve], Sign | None]
    evidence: str
    rule: str
    why: str


def _diverged(run: RunCurve) -> Sign | None:
    return Sign(run.diverged, {"epochs": len(run.history), "skipped": run.skipped_steps})


def _skipping(run: RunCurve) -> Sign | None:
    share = run.skipped_steps / run.steps if run.steps else math.nan
    return _sign(share > SKIPPED_SHARE, skipped=run.skipped_steps, share=share)


def _skipped(run: RunCurve) -> Sign | None:
    share = run.skipped_steps / run.steps if run.steps else math.nan
    return _sign(0 < share <= SKIPPED_SHARE, skipped=run.skipped_steps, share=share)


def _unstable(run: RunCurve) -> Sign | None:
    late, chance = run.late("train_loss"), run.chance_loss
    lowest = float(np.min(run.smoothed("train_loss").values, initial=np.inf))
    regained = (late - lowest) / (chance - lowest) if chance > lowest else 0.0
    risen = regained > REGAINED and late - lowest > REGAINED_OF_CHANCE * chance
    return _sign(late > WORSE_THAN_GUESSING * chance or risen, late=late, lowest=lowest, chance=chance)


def _stalled(run: RunCurve) -> Sign | None:
    late, chance = run.late("train_loss"), run.chance_loss
    room = chance - run.least_loss
    learned = float(np.maximum(0.0, (chance - late) / room)) if room > ROOM else math.nan
    accuracy = run.late("train_accuracy")
    return _sign(learned < LEARNED, late=late, chance=chance, learned=learned, accuracy=accuracy)


def _fall(run: RunCurve) -> dict[str, float]:
    """The best smoothed validation accuracy, its epoch, the accuracy at the end, and how far that is ``beyond`` noise.

    Above zero the fall counts. All are NaN if the run is short.
    """
    (epochs, accuracy), last = run.smoothed("validation_accuracy"), run.late("validation_accuracy")
    jitter = run.jitter("validation_accuracy", late=False)
    if math.isnan(jitter + last):
        return dict.fromkeys(("best", "epoch", "last", "beyond"), math.nan)
    best = int(np.argmax(accuracy))
    beyond = float(accuracy[best]) - last - max(FALL, run.validation_sd, FALL_JITTERS * jitter)
    return {"best": float(accuracy[best]), "epoch": float(epochs[best]), "last": last, "beyond": beyond}


def _memorising(run: RunCurve) -> Sign | None:
    """Only where labels are wrong; elsewhere ``memorised`` is undefined."""
    fall = _fall(run)
    then, late = _in_epoch(run, "memorised", fall["epoch"]), run.late("memorised")
    return _sign(fall["beyond"] > 0 and late - then > MEMORISED, **fall, then=then, late=late)


def _past_best(run: RunCurve) -> Sign | None:
    fall = _fall(run)
    then, late = _in_epoch(run, "train_loss", fall["epoch"]), run.late("train_loss")
    return _sign(fall["beyond"] > 0 and late < (1 - LOSS_GOES_ON) * then, **fall, then=then, late=late)


def _in_epoch(run: RunCurve, column: str, epoch: float) -> float:
    """A column's smoothed value in an epoch; NaN if it is unknown."""
    epochs, values = run.smoothed(column)
    return float(values[epochs == epoch].sum()) if epoch in epochs else math.nan


def _gap(run: RunCurve) -> Sign | None:
    """Not where the validation labels are cleaner than those trained on: the two accuracies differ for that alone."""
    if run.row.noise_rate and run.row.validation_labels == "clean":
        return None
    train, validation = run.late("train_accuracy"), run.late("validation_accuracy")
    gap = train - validation
    return _sign(gap > max(GAP, GAP_SDS * run.validation_sd), train=train, validation=validation, gap=100 * gap)


def _unfinished(run: RunCurve) -> Sign | None:
    train, rise = run.late("train_accuracy"), run.last_learning("train_accuracy")
    validation, jitter = run.last_learning("validation_accuracy"), run.jitter("train_accuracy", late=False)
    shown = rise > max(STILL_LEARNING, RISE_JITTERS * jitter) and validation > 0 and train < LEARNED_ENOUGH
    return _sign(shown, train=train, rise=100 * rise, validation=100 * validation)


def _restless(run: RunCurve) -> Sign | None:
    jumps, lr = run.jitter("validation_accuracy", late=True), run.known("lr").values
    last = float(lr[-1] / lr.max()) if len(lr) and lr.max() > 0 else math.nan
    return _sign(jumps > max(JUMPS, run.validation_sd), jumps=100 * jumps, lr=last)


def _sign(shown: bool, **numbers: float) -> Sign | None:
    """A sign, unless a number that it needs is unknown."""
    return None if any(math.isnan(number) for number in numbers.values()) else Sign(bool(shown), numbers)


WRONG = (
    Symptom(
        "diverged",
        "Training diverged",
        "trouble",
        _diverged,
        "ended after {epochs:.0f} whole epochs, {skipped:.0f} steps skipped",
        "the loss or a gradient was not finite in `patience` steps in a row",
        "not a matter of degree: such a run has no result of its own",
    ),
    Symptom(
        "skipping",
        "Training keeps losing its footing",
        "trouble",
        _skipping,
        "{skipped:.0f} steps skipped, {share:.1%} of all",
        f"the loss or a gradient was not finite in more than {SKIPPED_SHARE:.0%} of the steps",
        "the gradient scaler of half precision skips a few steps by design, hardly one in a hundred",
    ),
    Symptom(
        "unstable",
        "Training is unstable",
        "trouble",
        _unstable,
        "the training loss is {late:.2f} at the end and was {lowest:.2f} at best; guessing has {chance:.2f}",
        f"the late training loss is above {WORSE_THAN_GUESSING:g} times that of guessing, log(classes), or has lost "
        f"more than {REGAINED:.0%} of the way from guessing to its best, and {REGAINED_OF_CHANCE:g} log(classes)",
        "the best of many noisy epochs lies below their mean, so that small rises mean nothing; a loss above that of "
        "guessing is being wrong with confidence",
    ),
    Symptom(
        "stalled",
        "The training loss stays near that of guessing",
        "trouble",
        _stalled,
        "the training loss is {late:.2f} at the end and guessing has {chance:.2f}: {learned:.0%} of the way to what "
        "the labels allow; training accuracy {accuracy:.1%}",
        f"the late training loss has gone less than {LEARNED:.0%} of the way from that of guessing, log(classes), to "
        f"the entropy of the label noise (judged where these are more than {ROOM:g} apart)",
        "a network that predicts one class is at 0%; under 80% noise a perfect one has a loss near that of guessing, "
        "which a threshold on the loss itself would take for a stall",
    ),
)
"""Training itself went wrong. The first that a run shows is its symptom, and those below are not asked about."""

FITS = (
    Symptom(
        "memorising",
        "Wrong labels are memorised",
        "trouble",
        _memorising,
        "validation accuracy was best in epoch {epoch:.0f} with {best:.1%} and is {last:.1%} at the end, while the "
        "share of wrong labels learned rose from {then:.1%} to {late:.1%}",
        f"validation accuracy ends more than {100 * FALL:g} points below its best (and more than a standard error of "
        f"the validation set, and {FALL_JITTERS:g} times what neighbouring epochs differ by), and the share of wrong "
        f"labels that the network repeats rose by more than {100 * MEMORISED:g} points since",
        "a best epoch is the luckiest of many; both curves have to agree",
    ),
    Symptom(
        "past-best",
        "Validation accuracy is past its best",
        "hint",
        _past_best,
        "validation accuracy was best in epoch {epoch:.0f} with {best:.1%} and is {last:.1%} at the end, while the "
        "training loss fell from {then:.3f} to {late:.3f}",
        f"as for memorising, and the training loss fell by more than {LOSS_GOES_ON:.0%} since",
        "a fall while training goes on is overfitting; without it, something else went wrong",
    ),
    Symptom(
        "gap",
        "Good training, poor validation",
        "hint",
        _gap,
        "training accuracy {train:.1%} and validation accuracy {validation:.1%} at the end: {gap:.1f} points",
        f"training accuracy at the end exceeds validation accuracy by more than {100 * GAP:g} points, and by more "
        f"than {GAP_SDS:g} standard errors of the validation set",
        "training accuracy is taken with augmentation and while weights still move, so the true gap is larger; the "
        "guide gives no number",
    ),
    Symptom(
        "unfinished",
        "Still learning when the epochs are over",
        "hint",
        _unfinished,
        "training accuracy rose by {rise:.1f} points to {train:.1%}, validation accuracy by {validation:.1f} points, "
        "in the last fifth of all learning rate",
        f"training accuracy rose by more than {100 * STILL_LEARNING:g} points while the last fifth of all learning "
        f"rate was spent (and by {RISE_JITTERS:g} times what neighbouring epochs differ by), is below "
        f"{LEARNED_ENOUGH:.0%}, and validation accuracy rose as well",
        "counted in learning rate and not in epochs, because a rate that decays to zero ends every rise; what rises "
        "alone in training is overfitting",
    ),
)
"""What is learned does not fit the data. The first that a run shows is its symptom."""

RESTLESS = Symptom(
    "restless",
    "The last epoch is a matter of luck",
    "hint",
    _restless,
    "validation accuracy jumps by {jumps:.1f} points between neighbouring epochs at the end, where the learning rate "
    "is {lr:.0%} of its peak",
    f"in the last fifth of the epochs, neighbouring ones differ in validation accuracy by more than {100 * JUMPS:g} "
    "points beside any trend, and by more than a standard error of the validation set",
    "a table's differences are of one or two points, so a last epoch that jumps by more is no measure of a method",
)

SKIPPED = Symptom(
    "skipped",
    "A few steps were skipped",
    "fine",
    _skipped,
    "{skipped:.0f} steps skipped, {share:.2%} of all",
    f"the loss or a gradient was not finite in some of the steps, {SKIPPED_SHARE:.0%} at most",
    "a skipped step changes nothing, and the run went on",
)

SYMPTOMS = (*WRONG, *FITS, RESTLESS, SKIPPED)
"""All symptoms of single runs."""


def signs(run: RunCurve) -> dict[str, Sign]:
    """What the rules find in one run, by symptom; one that cannot be judged, or need not be, is left out."""
    found = _first(run, WRONG)
    if not any(sign.shown for sign in found.values()):
        found |= _first(run, FITS)
        found |= {symptom.id: sign for symptom in (RESTLESS, SKIPPED) if (sign := symptom.judge(run)) is not None}
    return found


def _first(run: RunCurve, symptoms: tuple[Symptom, ...]) -> dict[str, Sign]:
    """The signs of ``symptoms`` up to the first that shows."""
    found: dict[str, Sign] = {}
    for symptom in symptoms:
        sign = symptom.judge(run)
        if sign is not None:
            found[symptom.id] = sign
        if sign is not None and sign.shown:
            break
    return found
