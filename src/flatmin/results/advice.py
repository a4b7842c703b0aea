"""Cause and advice for every symptom, and what the sources support of what the guide says of it.

The guide is the text that the project started from; its diagnostic table has four rows. Numbers of papers are those of
`experiments/claims.yaml` and its sources: SAM is Foret et al. 2021 (arXiv 2010.01412).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flatmin.results.wording import method_title

SAMS_RADIUS = ("sam", "gsam", "esam", "looksam")
"""Ascents with SAM's ball, ||eps|| = rho: the papers' and the guide's numbers for rho are on this scale alone."""

GUIDES_RHO = 0.2
"""The largest rho that the guide advises against a missing gain."""

ACTS = 0.1
"""A training loss that differs from the baseline's by more than this share shows that the ascent does something."""

OWN_GAINS = (
    "No difference is an answer, too: the SAM paper's own gain is 0.2 to 0.3 points with strong augmentation (Table 1, "
    "CIFAR-10, WRN-28-10, 200 epochs)."
)


@dataclass(frozen=True)
class Subject:
    """Whom a finding is about.

    Attributes:
        method: The method's name.
        ascent: Its ascent, ``none`` for a plain optimizer.
        rho: Its radius, None where the runs differ or it has none.
        lr: The highest learning rate at the end of an epoch, where its runs agree.
        noisy: Whether some training labels are wrong.
        baseline: The method without ascent that it is compared with, if there is one.
        shared: Whether the baseline shows the same symptom; None if that is unknown.
        loss_ratio: Its late training loss over the baseline's, if known.
    """

    method: str
    ascent: str = "none"
    rho: float | None = None
    lr: float | None = None
    noisy: bool = False
    baseline: str | None = None
    shared: bool | None = None
    loss_ratio: float | None = None

    @property
    def ascends(self) -> bool:
        """Whether there is a rho that could be at fault."""
        return self.ascent != "none"

    @property
    def on_sams_scale(self) -> bool:
        """Whether the papers' numbers for SAM's rho are on this method's scale."""
        return self.ascent in SAMS_RADIUS

    @property
    def radius(self) -> str:
        """ "rho 0.5", or "rho" where it is not one number."""
        return "rho" if self.rho is None else f"rho {self.rho:g}"

    @property
    def rate(self) -> str:
        """ "learning rate 0.1", or "learning rate" where it is unknown."""
        return "learning rate" if self.lr is None else f"learning rate {self.lr:.2g}"

    @property
    def rival(self) -> str:
        """The baseline's name in a sentence."""
        return method_title(str(self.baseline))


Advice = tuple[str, str]
"""Cause and advice."""


def advise(symptom: str, subject: Subject) -> Advice:
    """Cause and advice of a symptom, for one method.

    Raises:
        KeyError: there is no such symptom.
    """
    return ADVICE[symptom](subject)


def _too_large(subject: Subject) -> Advice:
    """Training itself goes wrong: the baseline without ascent tells rho from the learning rate."""
    calmer = "Lower the learning rate, warm up for longer, or clip the gradient (clip_norm)."
    if not subject.ascends:
        return f"The {subject.rate} is too large for this network and these data (or far too small).", calmer
    if subject.shared:
        cause = f"The {subject.rate} rather than rho: {subject.rival}, the same without ascent, shows it too."
        return cause, f"{calmer} The SAM paper tunes it without SAM first, and only then rho."
    if subject.shared is None:
        cause = f"{subject.radius} or the {subject.rate} is too large: no run without ascent shares the rate."
        return cause, f"{_less(subject)} {calmer} {_guide_on_large(subject)}"
    cause = f"{subject.radius} is too large: {subject.rival}, the same without ascent, does not show it."
    return cause, f"{_less(subject)} {_guide_on_large(subject)}"


def _less(subject: Subject) -> str:
    return f"Lower rho, to {subject.rho / 2:g} or {subject.rho / 4:g}." if subject.rho else "Lower rho."


def _guide_on_large(subject: Subject) -> str:
    if not subject.on_sams_scale:
        return "The guide's 0.01 to 0.02 is for SAM's rho, which is on another scale."
    return (
        "The guide says 0.01 to 0.02, and that only a rho above 1 is unstable. Neither is in the paper: its grid is "
        "0.01 to 0.5, and with 80% wrong labels its error at 0.5 is that of guessing (Table 8). The limit depends on "
        "the data."
    )


def _memorising(subject: Subject) -> Advice:
    cause = f"The right labels are learned first, and the wrong ones while training goes on.{_too(subject)}"
    advice = "Stop early, at the epoch that is best on validation data, as the early-stopped results do."
    if not subject.ascends:
        return cause, f"{advice} Longer training makes it worse."
    return cause, (
        f"{advice} A larger rho can delay it, within a narrow range (SAM, Table 8). The guide holds flat minima to be "
        "robust to wrong labels by nature; that is disputed: SAM fits them too when it trains on (Andriushchenko and "
        "Flammarion 2022), and its lead comes with early stopping (Baek et al. 2024)."
    )


def _too(subject: Subject) -> str:
    return f" {subject.rival}, without ascent, shows it too." if subject.shared else ""


def _past_best(subject: Subject) -> Advice:
    return (
        f"Overfitting: training goes on to fit what does not generalise.{_too(subject)}",
        "Stop early, at the epoch that is best on validation data, or train for fewer epochs; more augmentation.",
    )


def _gap(subject: Subject) -> Advice:
    wrong = ", to wrong labels among others: stop early" if subject.noisy else ""
    larger = " A larger rho is worth a trial on validation data, and no cure by itself." if subject.ascends else ""
    return f"Overfitting{wrong}.{_too(subject)}", (
        f"More data, more augmentation or more weight decay.{larger} The guide calls this underfitting and advises "
        "more capacity: a network that fits its training data does not underfit. It also advises to do without L2; "
        "the SAM paper has weight decay in every CIFAR run (5e-4 or 1e-3, Table 6), and its error falls with "
        "augmentation (Table 1)."
    )


def _unfinished(subject: Subject) -> Advice:
    slower = subject.ascends and subject.shared is False
    cause = f" {subject.rival}, without ascent, does not show it: the ascent slows training down." if slower else ""
    smaller = " or a smaller rho" if slower else ""
    return f"Too few epochs, or a learning rate too low for them.{cause}", (
        f"More epochs, or a higher learning rate{smaller}. A comparison of methods that have not finished measures "
        "their speed."
    )


def _restless(subject: Subject) -> Advice:
    advice = "Let the learning rate decay to zero (schedule: cosine), or lower it; a larger validation set jumps less."
    if subject.ascends:
        advice += " The guide couples rho to the learning rate; the SAM paper has no experiment on that."
    return f"Steps are still large at the end: {subject.rate} at its peak.", advice


def _skipped(subject: Subject) -> Advice:
    return "A single overflow, as the gradient scaler of half precision (fp16) makes by design.", "Nothing to do."


def _worse(subject: Subject) -> Advice:
    held = subject.loss_ratio is not None and subject.loss_ratio > 1 + ACTS
    loss = f": its training loss is {subject.loss_ratio:.2f} times as high" if held else ""
    cause = f"{subject.radius} is too large{loss}, or the ascent does not suit these data."
    return cause, f"{_less(subject)} Validation data decide, not the papers' values."


def _no_difference(subject: Subject) -> Advice:
    """The training loss tells an ascent that does nothing from one that changes training and not accuracy."""
    known = "unknown" if subject.loss_ratio is None else f"{subject.loss_ratio:.2f} times that of {subject.rival}"
    if subject.loss_ratio is not None and abs(subject.loss_ratio - 1) > ACTS:
        acts = f"the ascent acts, the training loss is {known}, and accuracy does not follow"
        return f"Not that rho is too small: {acts}.", OWN_GAINS
    raised = f"Try {2 * subject.rho:g} and {4 * subject.rho:g} on validation data." if subject.rho else ""
    cause = f"{subject.radius} may be too small to matter: the training loss is {known}."
    return cause, " ".join(part for part in (raised, _guide_on_small(subject), OWN_GAINS) if part)


def _guide_on_small(subject: Subject) -> str:
    if not subject.on_sams_scale:
        return ""
    if subject.rho is not None and subject.rho >= GUIDES_RHO:
        return f"The guide's remedy, rho 0.1 to 0.2, is no larger than {subject.rho:g}."
    return (
        "The guide says 0.1 to 0.2; the paper selected 0.01 to 0.2 on validation data (Tables 6 and 7): the value "
        "depends on the data."
    )


def _edge(subject: Subject) -> Advice:
    grid = " (the SAM paper's grid for rho is 0.01 to 0.5)" if subject.on_sams_scale else ""
    return "The best value may lie beyond the grid.", f"Widen the grid on that side and select again{grid}."


ADVICE: Mapping[str, Callable[[Subject], Advice]] = {
    "diverged": _too_large,
    "skipping": _too_large,
    "unstable": _too_large,
    "stalled": _too_large,
    "memorising": _memorising,
    "past-best": _past_best,
    "gap": _gap,
    "unfinished": _unfinished,
    "restless": _restless,
    "skipped": _skipped,
    "worse": _worse,
    "no-difference": _no_difference,
    "edge": _edge,
}
"""By symptom."""
