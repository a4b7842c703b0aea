"""The claims file: valid, nothing from memory, values as printed, mistakes named."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatmin.results.claim_spec import MOST_PRIMARY, ClaimsError, ClaimSpec, load_claims

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


def test_all_thirty_cells_of_table_1_and_four_of_table_4(claims: dict[str, ClaimSpec]) -> None:
    assert sum(name.startswith("sam-t1-") for name in claims) == 30
    assert sum(name.startswith("sam-t4-") for name in claims) == 4


def test_nothing_is_from_memory(claims_path: Path, claims: dict[str, ClaimSpec]) -> None:
    assert all(claim.confidence != "from-memory" for claim in claims.values())
    text = claims_path.read_text()
    for value in ("75.79", "76.39", "76.63", "0.174", "0.636", "93.33", "95.18", "94.6,"):  # known only from memory
        assert value not in text


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
