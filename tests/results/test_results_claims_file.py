"""The claims file: valid, nothing from memory, values as printed, mistakes named."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from synthetic import make_seconds, make_study

from flatmin import catalogue
from flatmin.results.aggregate import aggregate
from flatmin.results.claim_files import published_text
from flatmin.results.claim_spec import MOST_PRIMARY, ClaimsError, ClaimSpec, load_claims
from flatmin.results.claim_words import rule_text
from flatmin.results.inputs import MEASURED
from flatmin.results.rules import ABSENT, UNMEASURED, MethodMatch

# typed from SAM (arXiv 2010.01412v3): treatment, baseline, effect
SAM = {
    "sam-t1-cifar-10-wrn-28-10-200ep-basic": (2.7, 3.5, 0.8),
    "sam-t1-cifar-100-wrn-28-10-200ep-basic": (16.5, 18.8, 2.3),
    "sam-t1-cifar-10-wrn-28-10-1800ep-aa": (1.6, 2.2, 0.6),
    "sam-t1-cifar-100-pyramidnet-basic": (14.6, 19.7, 5.1),
    "sam-t1-cifar-100-pyramidnet-shakedrop-aa": (10.3, 10.6, 0.3),
    "sam-t1-cifar-10-shake-shake-26-2x96d-cutout": (2.0, 2.3, 0.3),
    "sam-t4-noise20": (95.1, 84.8, 10.3),
    "sam-t4-noise40": (93.4, 68.8, 24.6),
    "sam-t4-noise60": (90.5, 48.2, 42.3),
    "sam-t4-noise80": (77.9, 26.2, 51.7),
    "sam-t2-imagenet-resnet-50-100ep": (22.5, 22.9, 0.4),
    "sam-t2-imagenet-resnet-101-400ep": (19.0, 22.3, 3.3),
    "sam-t2-imagenet-resnet-152-200ep": (18.5, 20.3, 1.8),
    "sam-t3-cifar-10-efficientnet-b7": (0.88, 0.95, 0.07),
    "sam-t3-cifar-100-efficientnet-l2": (3.92, 4.07, 0.15),
    "sam-mixup-noise80": (77.9, 70.2, 7.7),
    "sam-t5-svhn-wrn-28-10-aa": (0.99, 1.14, 0.15),
    "sam-t5-svhn-shake-shake-aa": (1.07, 1.03, -0.04),
    "sam-t5-fashion-mnist-shake-shake-cutout": (3.59, 3.76, 0.17),
    "sam-t8-noise60-rho01-rho005": (8.7, 47.1, 38.4),
    "sam-t8-noise60-rho05-sgd": (80.1, 52.3, -27.8),
    "sam-t11-cifar-100-steps2": (16.59, 16.72, 0.13),
    "sam-fig3-lambda-max": (1.0, 24.2, -23.2),
}
# ASAM Table 6 and CIFAR rows, as quoted by others
ASAM = {
    "asam-t6-noise60-asam-sam": (87.41, 86.58, 0.83),
    "asam-t6-noise80-asam-sgd": (67.69, 68.35, -0.66),
    "asam-cifar-10-wrn-28-10-asam-sam": (97.28, 96.98, 0.30),
    "asam-cifar-100-wrn-28-10-sam-sgd": (83.42, 81.56, 1.86),
}

GOOD = """
claims:
  - id: one
    paper: A
    where: Table 1
    statement: SAM helps
    published: {unit: test error %, treatment: {value: 2.7}, baseline: {value: 3.5}}
    source: https://example.org
    confidence: verified-from-text
"""


@pytest.fixture(scope="module")
def claims(claims_path: Path) -> dict[str, ClaimSpec]:
    return {claim.id: claim for claim in load_claims(claims_path)}


@pytest.mark.parametrize("name", [*SAM, *ASAM])
def test_values_are_those_in_print(claims: dict[str, ClaimSpec], name: str) -> None:
    treatment, baseline, effect = (SAM | ASAM)[name]
    published = claims[name].published
    assert published is not None
    assert published.treatment is not None
    assert published.baseline is not None
    assert (published.treatment.value, published.baseline.value) == (treatment, baseline)
    assert published.effect == pytest.approx(effect)


@pytest.mark.parametrize(
    ("beginning", "number"), [("sam-t1-", 30), ("sam-t2-", 9), ("sam-t4-", 4), ("sam-t5-", 8), ("sam-t11-", 7)]
)
def test_whole_tables_are_there(claims: dict[str, ClaimSpec], beginning: str, number: int) -> None:
    assert sum(name.startswith(beginning) for name in claims) == number


def test_there_are_many_claims_of_every_party(claims: dict[str, ClaimSpec]) -> None:
    parties = Counter(name.split("-")[0] for name in claims)
    assert len(claims) >= 150
    assert min(parties[party] for party in ("sam", "asam", "guide", "critics")) >= 15


FROM_MEMORY = ("75.79", "76.39", "76.63", "0.174", "0.636", "0.257", "0.616", "93.33", "95.18", "94.6,")
"""Numbers of ASAM's paper that nobody has seen in a source."""

CHECKED = {"verified-from-text", "computed-from-data", "quoted-by-secondary", "statement"}


def test_nothing_is_from_memory(claims_path: Path, claims: dict[str, ClaimSpec]) -> None:
    assert {claim.confidence for claim in claims.values()} == CHECKED
    assert not [value for value in FROM_MEMORY if value in claims_path.read_text()]


def test_no_output_has_a_number_from_memory(tmp_path: Path, claims_path: Path, claims: dict[str, ClaimSpec]) -> None:
    runs, tables = make_study()
    aggregate(runs, tables, make_seconds(runs), claims_path, tmp_path)
    records = json.loads((tmp_path / "claims.json").read_text())
    assert [record["id"] for record in records] == list(claims)
    assert {record["confidence"] for record in records} == CHECKED
    published = " ".join(record["published"] for record in records)
    assert not [value for value in FROM_MEMORY if value in published]
    for path in tmp_path.rglob("*.*"):
        if path.suffix in (".md", ".json", ".csv", ".tex", ".html"):
            assert "from-memory" not in path.read_text(), path


def test_every_claim_that_is_mentioned_exists(claims_path: Path, claims: dict[str, ClaimSpec]) -> None:
    root = claims_path.parents[1]
    notes = {claim.id: claim.note for claim in claims.values()}
    texts = {str(path): path.read_text() for path in (*root.glob("*.md"), *root.glob("docs/*.md"))}
    for place, text in (notes | texts).items():
        for name in re.findall(r"\b(?:sam-(?:t\d+|fig\d)|asam-t6|guide|critics)-[a-z0-9-]+[a-z0-9]\b", text):
            assert any(known.startswith(name) for known in claims), f"{place} mentions {name}"


def test_a_claim_with_a_published_setting_says_where_it_was_obtained(claims: dict[str, ClaimSpec]) -> None:
    ratios = [c for c in claims.values() if c.published is not None and c.published.unit == "ratio"]
    assert all(c.setting is not None for c in claims.values() if c.published is not None and c not in ratios)
    assert all(c.source.startswith(("http", "Sharpness-Aware", "this project")) for c in claims.values())


def test_what_nobody_measures_is_named(claims: dict[str, ClaimSpec]) -> None:
    rules = [claim.rule for claim in claims.values() if claim.unmeasured]
    needed = {name for rule in rules for name in (rule.metric, rule.against)}
    ascents = {m.ascent for rule in rules for m in (rule.treatment, rule.baseline) if isinstance(m, MethodMatch)}
    assert set(UNMEASURED) <= needed
    assert set(ABSENT) <= ascents
    assert not set(ABSENT) & set(catalogue.ascents())
    assert not set(UNMEASURED) & set(MEASURED)


def test_every_rule_can_be_said_in_words(claims: dict[str, ClaimSpec]) -> None:
    for claim in claims.values():
        text = rule_text(claim)
        assert " is " in text
        assert "None" not in text
        assert "nan" not in text


def test_a_comma_splits_no_phrase(claims: dict[str, ClaimSpec]) -> None:
    for claim in claims.values():
        for text in claim.setting.besides if claim.setting else ():
            assert len(text.split()) > 3, claim.id
    steps = claims["sam-t11-cifar-10-steps2"].setting
    assert steps is not None
    assert steps.besides == ("projected ascent, of steps that are not stated",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sam-t1-cifar-10-wrn-28-10-200ep-cutout", "+0.3 points (test error %: 2.3 ± 0.1 against 2.6 ± 0.1)"),
        ("sam-t2-imagenet-resnet-101-400ep", "+3.3 points (test error %: 19.0 ± <0.01 against 22.3 ± 0.1)"),
        ("sam-t3-cifar-10-efficientnet-l2", "+0.04 points (test error %: 0.30 ± 0.01 against 0.34 ± 0.02)"),
        ("sam-t11-cifar-10-steps5", "+0.00 points (test error %: 2.77 ± 0.03 against 2.77 ± 0.03)"),
        ("critics-calibration", "-2.52 points (ECE %: 3.24 ± 0.39 against 5.76 ± 0.43)"),
        ("critics-best-epoch-30-noise", "+17 points"),
        ("looksam-cost", "1.2x"),
    ],
)
def test_published_numbers_have_the_digits_and_bounds_of_the_paper(
    claims: dict[str, ClaimSpec], name: str, text: str
) -> None:
    assert published_text(claims[name]) == text


def test_bounds_are_printed_as_bounds(claims: dict[str, ClaimSpec]) -> None:
    bounded = [c for c in claims.values() if c.published and "ci95-below" in str(c.published)]
    assert len(bounded) >= 8
    assert all("± <" in published_text(claim) for claim in bounded)


def test_primary_claims_are_few(claims: dict[str, ClaimSpec]) -> None:
    assert 0 < sum(claim.primary for claim in claims.values()) <= MOST_PRIMARY


def test_quoted_numbers_say_so(claims: dict[str, ClaimSpec]) -> None:
    quoted = [c for c in claims.values() if c.id.startswith("asam-")]
    assert {c.confidence for c in quoted} == {"quoted-by-secondary"}
    assert all(c.setting and c.setting.result == "best-test" for c in quoted)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("statement:", "statment:", r"claim one\.statment: unknown key\n.*did you mean 'statement'"),
        ("treatment: {value", "treatment: {valu", r"claim one\.published\.treatment\.valu: unknown key"),
        ("verified-from-text", "from-memory", r"claim one\.confidence: 'from-memory' is not valid"),
        ("value: 2.7", "value: 2.7, spread: 0.1", "a spread needs its kind and the number of runs"),
        ("source:", "rule: {metric: test_acuracy}\n    source:", "did you mean 'test_accuracy'"),
        ("source:", "rule: {direction: lower}\n    source:", "contradicts the effect"),
        ("claims:", "clams: []\nclaims:", "clams: unknown key; did you mean 'claims'"),
        ("source:", "rule: {kind: trend}\n    source:", "'along' belongs to the kind trend"),
        ("source:", "rule: {share: 0.5}\n    source:", "'share' belongs to the kind share"),
        ("source:", "rule: {against: test_error}\n    source:", "'against' belongs to the kind correlation"),
        ("source:", "rule: {kind: no-benefit, baseline: itself, against: test_error}\n    source:", "no meaning"),
        ("source:", "rule: {treatment: {ascent: samm}}\n    source:", "unknown ascent 'samm'; did you mean 'sam'"),
        ("source:", "rule: {treatment: {ascent: sam, options: {step: 2}}}\n    source:", "did you mean 'steps'"),
        ("source:", "rule: {treatment: {ascent: sam, options: {steps: 0}}}\n    source:", "of at least 1, not 0"),
        ("source:", "rule: {treatment: {ascent: sam, free: [beta]}}\n    source:", "has no option 'beta'"),
        ("source:", "rule: {at_least: 1, margin: 1}\n    source:", "a margin has no meaning beside a threshold"),
        ("verified-from-text", "statement", "a sentence without a number"),
        ("    published: {unit: test error %, treatment: {value: 2.7}, baseline: {value: 3.5}}\n", "", "is absent"),
    ],
)
def test_a_mistake_is_named_with_its_claim_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD)
    assert len(load_claims(path)) == 1
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ClaimsError, match=said):
        load_claims(path)


def test_an_id_used_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD + GOOD.replace("claims:", ""))
    with pytest.raises(ClaimsError, match="claim one: the id is used twice"):
        load_claims(path)


def test_margin_defaults_to_half_of_the_published_effect(claims: dict[str, ClaimSpec]) -> None:
    assert claims["sam-t1-cifar-10-wrn-28-10-200ep-basic"].margin == pytest.approx(0.4)
    assert claims["asam-t6-noise80-asam-sgd"].margin == pytest.approx(0.33)
