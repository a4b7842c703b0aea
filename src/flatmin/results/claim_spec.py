"""The claims file: one record per published statement, validated so that a misspelt key is named with its claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from flatmin.errors import FlatminError, nearest
from flatmin.problems import problem_of
from flatmin.reading import read_yaml
from flatmin.results.published import Published, Setting, Strict, Value
from flatmin.results.rules import ABSENT, UNMEASURED, Admissible, MethodMatch, Rule

__all__ = ["Admissible", "ClaimSpec", "ClaimsError", "MethodMatch", "Published", "Rule", "Setting", "Value"]
__all__ += ["load_claims", "with_primary"]

MOST_PRIMARY = 6
"""Primary claims share one family-wise error rate, which more of them would only thin out."""

SIGNED = ("effect", "trend", "across", "interaction", "correlation")
"""Rules whose claimed side a published number must be on."""

SIZED = ("effect", "trend", "across", "interaction")
"""Rules whose size is in the unit of a published one."""


class ClaimsError(FlatminError):
    """The claims file cannot be used; lists every problem with the claim's id and the key's path."""


class ClaimSpec(Strict):
    """One published statement. ``primary`` claims are adjusted together (Holm); all others are exploratory.

    ``confidence`` says how the number was checked; numbers from memory are not admitted. ``statement`` marks a
    sentence without a number.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    paper: str
    where: str
    statement: str
    published: Published | None = None
    setting: Setting | None = None
    admissible: Admissible = Admissible()
    rule: Rule = Rule()
    source: str
    confidence: Literal["verified-from-text", "computed-from-data", "quoted-by-secondary", "statement"]
    primary: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _agrees_with_its_number(self) -> ClaimSpec:
        if self.published is None:
            if self.confidence != "statement":
                raise ValueError(f"confidence {self.confidence!r} describes a number, but published is absent")
            return self
        if self.confidence == "statement":
            raise ValueError("confidence 'statement' marks a sentence without a number, but published has one")
        if self.rule.kind in SIGNED and self.rule.sign * self.published.effect <= 0:
            raise ValueError(
                f"rule.direction {self.rule.direction!r} contradicts the effect {self.published.effect:+g}"
            )
        return self

    @property
    def margin(self) -> float | None:
        """The equivalence margin: the rule's own, else half of the published effect, else none.

        A claim with a threshold has none, nor has a correlation: within it they could never be refuted, or always.
        """
        if self.rule.has_threshold or self.rule.correlates:
            return None
        if self.rule.margin is not None:
            return self.rule.margin
        return abs(self.published.effect) / 2 if self.published else None

    @property
    def sized(self) -> bool:
        """Whether our size can be held against a published one, for which that needs a spread on both sides."""
        return self.published is not None and self.published.has_spread and self.rule.kind in SIZED

    @property
    def unmeasured(self) -> str:
        """What the rule needs and no run of any study has, in words; empty where all is there."""
        rule = self.rule
        missing = [UNMEASURED[name] for name in (rule.metric, rule.against, rule.than) if name in UNMEASURED]
        matches = [match for match in (rule.treatment, rule.baseline, rule.reference) if isinstance(match, MethodMatch)]
        missing += [f"{ABSENT[match.ascent]} (no such ascent here)" for match in matches if match.ascent in ABSENT]
        return " and ".join(missing)


def load_claims(path: Path) -> list[ClaimSpec]:
    """Read and validate a claims file, which is a mapping with ``claims`` and, for YAML anchors, ``shared``.

    Raises:
        ClaimsError: a key, a value or an id cannot be used; every problem names its claim and key.
        StudyError: the file is missing or not YAML.
    """
    raw = read_yaml(path)
    problems = [f"{key}: unknown key; {nearest(key, ('claims', 'shared'))}" for key in raw if key not in _SECTIONS]
    claims: list[ClaimSpec] = []
    for index, record in enumerate(raw.get("claims") or []):
        try:
            claims.append(ClaimSpec.model_validate(record))
        except ValidationError as error:
            name = record.get("id") if isinstance(record, dict) else None
            place = (f"claim {name or f'number {index + 1}'}",)
            problems += [str(problem_of(ClaimSpec, e, place)) for e in error.errors()]
    problems += [f"claim {name}: the id is used twice" for name, n in Counter(c.id for c in claims).items() if n > 1]
    problems += _too_many([claim.id for claim in claims if claim.primary])
    if problems:
        raise ClaimsError("\n  ".join([f"{path.name} cannot be used:", *problems]))
    return claims


def with_primary(claims: Sequence[ClaimSpec], names: Sequence[str]) -> list[ClaimSpec]:
    """Return the claims with those that a study names as its primary ones, in place of the file's own choice.

    Raises:
        ClaimsError: a name is no claim's, or there are more than `MOST_PRIMARY`.
    """
    known = [claim.id for claim in claims]
    problems = [f"no claim is called {name!r}; {nearest(name, known)}" for name in names if name not in known]
    problems += _too_many(list(dict.fromkeys(names)))
    if problems:
        raise ClaimsError("\n  ".join(["the study's primary claims cannot be used:", *problems]))
    return [claim.model_copy(update={"primary": claim.id in names}) for claim in claims]


def _too_many(primary: list[str]) -> list[str]:
    if len(primary) <= MOST_PRIMARY:
        return []
    return [f"at most {MOST_PRIMARY} claims may be primary, not {len(primary)}: {', '.join(primary)}"]


_SECTIONS: tuple[Any, ...] = ("claims", "shared")
