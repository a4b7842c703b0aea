"""The rule of a claim in words: which rows speak to it, what is compared, and when it holds."""

from __future__ import annotations

from collections.abc import Iterator

from flatmin.results.claim_spec import ClaimSpec
from flatmin.results.rules import ABSENT, BEYOND, SAMENESS, UNMEASURED, Admissible, MethodMatch, Rule


def rule_text(claim: ClaimSpec) -> str:
    """What is computed and which side of it the claim is on, in a sentence."""
    rule = claim.rule
    text = f"{_computed(rule)} {_condition(claim)}"
    decides = claim.margin and rule.kind not in SAMENESS
    return text + (f" (equivalence margin ±{claim.margin:g})" if decides else "")


def _computed(rule: Rule) -> str:
    """The number that a rule computes for each seed."""
    metric, treatment, baseline = metric_text(rule.metric), match_text(rule.treatment), baseline_text(rule)
    against = metric_text(rule.against) if rule.against else metric
    gain = f"the gain in {metric} of {treatment} over {baseline}"
    if rule.correlates:
        less = f", minus that of {metric_text(rule.than)}," if rule.than else ""
        return f"Kendall's tau of {metric} and {against} over the methods of a row{less}"
    if rule.kind == "ratio":
        return f"{metric} of {treatment} over {against if rule.baseline == 'itself' else f'that of {baseline}'}"
    if rule.kind == "early-stopping":
        return f"half of {gain} at the last epoch minus that at the validation-chosen epoch"
    if rule.reference is not None:
        return f"{gain} minus {rule.share:.0%} of that of {match_text(rule.reference)}"
    if rule.kind == "trend":
        return f"the slope of {metric} per doubling of {rule.along} over the methods {treatment}"
    if rule.partner is not None:
        what = gain if rule.kind == "interaction" else f"{metric} of {treatment}"
        return f"{what} minus that on a row with {admissible_text(rule.partner)}"
    other = f"its {against}" if rule.baseline == "itself" else f"that of {baseline}"
    return f"{metric} of {treatment} minus {other}"


def _condition(claim: ClaimSpec) -> str:
    rule = claim.rule
    unit = f" {rule.unit}" if rule.unit and rule.kind != "ratio" else ""
    margin = f"±{claim.margin or 0:g}{unit}"
    if rule.kind == "ratio":
        return f"is {rule.target:g} within {margin}"
    if rule.kind == "no-effect":
        return f"is zero within {margin}"
    if rule.kind == "no-benefit":
        return f"is below {claim.margin or 0:g}{unit}"
    if rule.kind == "no-correlation":
        return "is about zero (a clear one refutes this, and nothing shows it)"
    side = "above" if rule.direction == "higher" else "below"
    return f"is {side} {rule.sign * rule.at_least:g}{unit}" if rule.at_least else f"is {side} zero"


def metric_text(name: str) -> str:
    """A measurement in words."""
    return BEYOND.get(name) or UNMEASURED.get(name) or name.replace("_", " ")


def baseline_text(rule: Rule) -> str:
    """What a treatment is compared with, in words; empty where it is compared with itself."""
    if isinstance(rule.baseline, MethodMatch):
        return match_text(rule.baseline)
    words = {"better": "the better baseline", "same-epochs": "the plain optimizer at as many epochs", "itself": ""}
    return words[rule.baseline]


def admissible_text(rule: Admissible) -> str:
    """The rows that may speak to a claim, in words."""
    return ", ".join(_properties(rule)) or "anything"


def _properties(rule: Admissible) -> Iterator[str]:
    if rule.sources is not None:
        yield f"images of {_either(rule.sources)}"
    if rule.noise_kinds == ("none",):
        yield "no label noise"
    elif rule.noise_kinds is not None:
        low, high = rule.noise_rate or (0.0, 1.0)
        rate = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
        yield f"{rate} {_either(rule.noise_kinds)} label noise"
    if rule.models is not None:
        yield f"model {_either(rule.models)}"
    if rule.pretrained is not None:
        yield "a pretrained model" if rule.pretrained else "a model that is not pretrained"
    if rule.most_parameters is not None:
        yield f"at most {rule.most_parameters:,} parameters"
    if rule.augmentations is not None:
        yield f"augmentation {_either(rule.augmentations)}"
    if rule.least_epochs is not None:
        yield f"at least {rule.least_epochs} epochs"


def methods_text(rule: Rule) -> str:
    """The methods that a rule compares, in words: "sam (steps 2) and sam"."""
    if rule.correlates:
        return "three methods or more"
    if rule.kind == "trend":
        return f"two or more of {match_text(rule.treatment)} that differ in {rule.along} alone"
    parts = [match_text(rule.treatment), "" if rule.kind == "across" else baseline_text(rule)]
    parts += [match_text(rule.reference)] if rule.reference else []
    text = " and ".join(part for part in parts if part)
    return f"{text}, here and on a row with {admissible_text(rule.partner)}," if rule.partner else text


def match_text(match: MethodMatch) -> str:
    """A method by what it does, in words."""
    ascent = "no ascent" if match.ascent == "none" else ABSENT.get(match.ascent, match.ascent)
    said = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in _options(match)]
    return f"{ascent} ({', '.join(said)})" if said else ascent


def _options(match: MethodMatch) -> Iterator[tuple[str, str | int | float]]:
    yield from match.options.items()
    bounds = {"rho": match.rho, "rho above": match.rho_above, "rho below": match.rho_below}
    yield from ((name, value) for name, value in bounds.items() if value is not None)
    if match.augmentation is not None:
        yield "augmentation", match.augmentation


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)
