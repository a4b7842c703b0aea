"""params.yaml is read, resolved, and refused with the place, the value and the fix of everything wrong in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flatmin.errors import FlatminError, StudyError
from flatmin.presets import presets
from flatmin.reading import load
from flatmin.settings import SELECTED
from flatmin.study import NotSelectedError, Study
from flatmin.vocabulary import vocabulary
from flatmin.workspace import Workspace

PRESETS = presets(Workspace(Path(__file__).parents[1]))

TEXT = """\
study:
  - main

tables:
  main:
    datasets:
      - clean
      - noisy
    models:
      - mlp
    methods:
      - sgd
      - sgd-2x
      - sam
      - asam
    seeds: [0, 1]
    training:
      epochs: 8
    select:
      sgd:
        lr: [0.05, 0.1]
      sam:
        rho: [0.1, 0.2]
      asam:
        rho: [0.5, 1.0]

datasets:
  clean:
    source: digits
    validation:
      fraction: 0.2
  noisy:
    source: digits
    noise:
      kind: symmetric
      rate: 0.4
      definition: any-class

models:
  mlp:
    name: mlp
    args:
      hidden: [16]

methods:
  sgd:
    base: sgd
  sgd-2x:
    base: sgd
    training:
      epochs: 16
  sam:
    base: sgd
    ascent: sam
    rho: selected
  asam:
    base: sgd
    ascent: asam
    rho: selected
    eta: 0.01

training:
  epochs: 4
  batch_size: 64
  lr: selected
  warmup_epochs: 1

selection:
  seeds: [1000]

evaluation:
  test_sets:
    - test

sharpness:
  steps: 5
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def study(tmp_path: Path, *replaced: tuple[str, str]) -> Study:
    return load(written(tmp_path, changed(*replaced)), vocabulary())


def changed(*replaced: tuple[str, str]) -> str:
    """Return the study with each text replaced, where it stands first."""
    text = TEXT
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def refusal(tmp_path: Path, text: str) -> StudyError:
    with pytest.raises(StudyError) as caught:
        load(written(tmp_path, text), vocabulary())
    return caught.value


def blocks(error: StudyError) -> list[str]:
    """Return the message's problems: a line that names the place, and an indented one where a fix is offered."""
    head, *lines = str(error).split("\n")
    assert head == "params.yaml cannot be used:"
    problems: list[str] = []
    for line in lines:
        assert re.match(r"  \S|    \S", line)
        if line.startswith("    "):
            problems[-1] += f" | {line.strip()}"
        else:
            problems.append(line.strip())
    return problems


# --- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_shipped_study_loads(name: str) -> None:
    loaded = load(PRESETS[name], vocabulary())
    assert loaded.tables
    assert set(loaded.tables) <= set(loaded.params.tables)


def test_rows_are_the_datasets_by_the_models(tmp_path: Path) -> None:
    assert list(study(tmp_path).rows("main")) == [("clean", "mlp"), ("noisy", "mlp")]


@pytest.mark.parametrize(
    ("method", "setting", "expected"),
    [
        ("sgd", "batch_size", 64),  # the section
        ("sgd", "epochs", 8),  # the table over the section
        ("sgd-2x", "epochs", 16),  # the method over the table
        ("sgd-2x", "batch_size", 64),
        ("sgd", "momentum", 0.9),  # the default
    ],
)
def test_a_setting_is_the_section_s_then_the_table_s_then_the_method_s(
    tmp_path: Path, method: str, setting: str, expected: float
) -> None:
    assert getattr(study(tmp_path).training("main", method), setting) == expected


def test_an_override_of_augmentation_leaves_its_other_settings(tmp_path: Path) -> None:
    loaded = study(
        tmp_path,
        ("  warmup_epochs: 1\n", "  augmentation: {flip: true, pad: 4}\n"),
        ("      epochs: 8\n", "      augmentation: {pad: 2}\n"),
        ("      epochs: 16\n", "      augmentation: {padding: zero}\n"),
    )
    augmentation = loaded.training("main", "sgd-2x").augmentation
    assert (augmentation.flip, augmentation.pad, augmentation.padding) == (True, 2, "zero")


CHOICES: Mapping[tuple[str, str, str], Mapping[str, float]] = {
    ("clean", "mlp", "sgd"): {"lr": 0.05},
    ("noisy", "mlp", "sgd"): {"lr": 0.1},
    ("clean", "mlp", "sam"): {"rho": 0.1},
    ("noisy", "mlp", "sam"): {"rho": 0.2},
    ("clean", "mlp", "asam"): {"rho": 0.5},
    ("noisy", "mlp", "asam"): {"rho": 1.0},
}


def resolved(loaded: Study, choices: Mapping[tuple[str, str, str], Mapping[str, float]] = CHOICES) -> dict[str, Any]:
    return {run.name: run for run in loaded.runs("main", choices)}


def test_runs_are_rows_by_methods_by_seeds(tmp_path: Path) -> None:
    names = list(resolved(study(tmp_path)))
    assert len(names) == 2 * 4 * 2
    assert names[:3] == ["clean.mlp.sgd.s0", "clean.mlp.sgd.s1", "clean.mlp.sgd-2x.s0"]


@pytest.mark.parametrize("method", ["sgd", "sgd-2x", "sam", "asam"])
def test_every_method_takes_the_learning_rate_chosen_for_the_base_on_its_row(tmp_path: Path, method: str) -> None:
    runs = resolved(study(tmp_path))
    assert runs[f"clean.mlp.{method}.s0"].settings.training.lr == 0.05
    assert runs[f"noisy.mlp.{method}.s1"].settings.training.lr == 0.1


def test_a_method_s_own_choice_goes_before_the_base_s(tmp_path: Path) -> None:
    choices = {**CHOICES, ("clean", "mlp", "sam"): {"rho": 0.1, "lr": 0.07}}
    assert resolved(study(tmp_path), choices)["clean.mlp.sam.s0"].settings.training.lr == 0.07


def test_a_selected_rho_is_the_chosen_one(tmp_path: Path) -> None:
    runs = resolved(study(tmp_path))
    assert [runs[f"{d}.mlp.sam.s0"].settings.method.rho for d in ("clean", "noisy")] == [0.1, 0.2]


def test_the_base_of_another_optimizer_is_not_inherited_from(tmp_path: Path) -> None:
    loaded = study(
        tmp_path, ("    base: sgd\n    ascent: sam\n", "    base: adamw\n    ascent: sam\n    training: {lr: 0.3}\n")
    )
    assert loaded.base_method("main", "sam") is None
    assert loaded.base_method("main", "asam") == "sgd"


def test_a_hand_written_learning_rate_is_not_replaced_by_the_chosen_one(tmp_path: Path) -> None:
    loaded = study(tmp_path, ("      epochs: 16\n", "      lr: 0.3\n"))
    assert resolved(loaded)["clean.mlp.sgd-2x.s0"].settings.training.lr == 0.3


@pytest.mark.parametrize(("lacking", "name"), [("sgd", "lr of sgd"), ("sam", "rho of sam")])
def test_a_setting_that_is_not_selected_yet_is_named(tmp_path: Path, lacking: str, name: str) -> None:
    choices = {key: value for key, value in CHOICES.items() if key[2] != lacking}
    with pytest.raises(NotSelectedError, match=f"{name} in table main is not selected yet"):
        study(tmp_path).runs("main", choices)


def test_a_rho_that_nobody_writes_is_the_ascent_s_own(tmp_path: Path) -> None:
    loaded = study(tmp_path, ("    ascent: sam\n    rho: selected\n", "    ascent: sam\n"))
    assert resolved(loaded)["clean.mlp.sam.s0"].settings.method.rho == 0.05


def test_a_run_without_ascent_has_no_rho(tmp_path: Path) -> None:
    assert resolved(study(tmp_path))["clean.mlp.sgd.s0"].settings.method.rho == 0.0


@pytest.mark.parametrize("number", ["1e-3", "'1e-3'", "0.001", "1.0e-3"])
@pytest.mark.parametrize(
    ("old", "read"),
    [
        ("lr: selected", lambda s: s.params.training.lr),
        ("rho: selected", lambda s: s.params.methods["sam"].rho),
        ("fraction: 0.2", lambda s: s.params.datasets["clean"].validation.fraction),
        ("rate: 0.4", lambda s: s.params.datasets["noisy"].noise.rate),
        ("eta: 0.01", lambda s: resolved(s)["clean.mlp.asam.s0"].settings.method.options["eta"]),
    ],
)
def test_a_number_is_one_in_yaml_1_1_and_1_2_quoted_or_not(tmp_path: Path, old: str, read: Any, number: str) -> None:
    setting = old.partition(":")[0]
    assert read(study(tmp_path, (old, f"{setting}: {number}"))) == 0.001


def test_an_option_is_the_same_number_however_it_is_written(tmp_path: Path) -> None:
    options = {
        repr(resolved(study(tmp_path, ("eta: 0.01", f"eta: {one}")))["clean.mlp.asam.s0"].settings.method.options)
        for one in ("1", "1.0", "'1'", "1e0")
    }
    assert options == {"{'eta': 1.0}"}


@pytest.mark.parametrize(("word", "value"), [("on", True), ("off", False), ("yes", True), ("true", True)])
def test_a_truth_value_is_one_in_yaml_1_1_and_1_2(tmp_path: Path, word: str, value: bool) -> None:
    assert study(tmp_path, ("  epochs: 4\n", f"  nesterov: {word}\n")).params.training.nesterov is value


def test_a_grid_point_is_tried_in_place_of_selected_and_of_what_is_written(tmp_path: Path) -> None:
    for rho in (SELECTED, "0.3"):
        loaded = study(tmp_path, ("rho: selected", f"rho: {rho}"))
        settings = loaded.tried("main", "clean", "mlp", "sam", 1000, {"lr": 0.05, "rho": 0.1})
        assert (settings.method.rho, settings.training.lr, settings.seed) == (0.1, 0.05, 1000)


def test_rho_is_tried_at_the_learning_rate_that_the_runs_will_have(tmp_path: Path) -> None:
    loaded = study(tmp_path, ("    ascent: sam\n", "    ascent: sam\n    training: {lr: 0.3}\n"))
    assert loaded.tried("main", "clean", "mlp", "sam", 1000, {"lr": 0.05, "rho": 0.1}).training.lr == 0.3


def test_a_learning_rate_is_tried_at_the_hand_written_rho(tmp_path: Path) -> None:
    loaded = study(tmp_path, ("        rho: [0.1, 0.2]", "        lr: [0.1, 0.2]"), ("rho: selected", "rho: 0.3"))
    settings = loaded.tried("main", "clean", "mlp", "sam", 1000, {"lr": 0.2})
    assert (settings.method.rho, settings.training.lr) == (0.3, 0.2)


# --- what is refused --------------------------------------------------------------------------------------------------


MISSPELT = {
    "section": (("evaluation:\n", "evaluatoin:\n"), "evaluatoin", "evaluation"),
    "table": (("    seeds:", "    titel: x\n    seeds:"), "tables.main.titel", "title"),
    "table selection": (
        ("    seeds:", "    selection: {seed: [7]}\n    seeds:"),
        "tables.main.selection.seed",
        "seeds",
    ),
    "dataset": (
        ("    source: digits\n", "    source: digits\n    trian_size: 9\n"),
        "datasets.clean.trian_size",
        "train_size",
    ),
    "noise": (("      rate: 0.4", "      rat: 0.4"), "datasets.noisy.noise.rat", "rate"),
    "validation": (("      fraction:", "      fracton:"), "datasets.clean.validation.fracton", "fraction"),
    "model": (("    args:", "    arg:"), "models.mlp.arg", "args"),
    "method": (("    rho: selected", "    rho_: selected"), "methods.sam.rho_", "rho"),
    "option of an ascent": (("    eta: 0.01", "    etta: 0.01"), "methods.asam.etta", "eta"),
    "training": (("  epochs: 4", "  epocs: 4"), "training.epocs", "epochs"),
    "training of a table": (("      epochs: 8", "      epocs: 8"), "tables.main.training.epocs", "epochs"),
    "training of a method": (("      epochs: 16", "      epocs: 16"), "methods.sgd-2x.training.epocs", "epochs"),
    "augmentation": (("  epochs: 4", "  augmentation: {flop: true}"), "training.augmentation.flop", "flip"),
    "augmentation of a method": (
        ("      epochs: 16", "      augmentation: {flop: true}"),
        "methods.sgd-2x.training.augmentation.flop",
        "flip",
    ),
    "selection": (("  seeds: [1000]", "  seads: [1000]"), "selection.seads", "seeds"),
    "evaluation": (("  test_sets:", "  ece_bin: 3\n  test_sets:"), "evaluation.ece_bin", "ece_bins"),
    "sharpness": (("  steps: 5", "  stepps: 5"), "sharpness.stepps", "steps"),
}


@pytest.mark.parametrize("level", MISSPELT)
def test_a_misspelt_key_is_refused_with_the_nearest(tmp_path: Path, level: str) -> None:
    replaced, path, meant = MISSPELT[level]
    problems = blocks(refusal(tmp_path, changed(replaced)))
    [mine] = [problem for problem in problems if problem.startswith(f"{path}: ")]
    assert mine == f"{path}: unknown key | did you mean '{meant}'?"


def test_a_misspelt_key_of_a_method_that_no_table_uses_is_refused(tmp_path: Path) -> None:
    unused = "methods:\n  late:\n    base: sgd\n    training: {epocs: 3}\n"
    assert blocks(refusal(tmp_path, changed(("\nmethods:\n", f"\n{unused}")))) == [
        "methods.late.training.epocs: unknown key | did you mean 'epochs'?"
    ]


def test_a_misspelt_required_key_is_offered_what_is_there(tmp_path: Path) -> None:
    assert blocks(refusal(tmp_path, changed(("  sgd:\n    base: sgd", "  sgd:\n    bsae: sgd")))) == [
        "methods.sgd.base: is required | is 'bsae' meant to be 'base'?"
    ]


REFUSED = {
    "unknown table": (
        ("  - main", "  - mian"),
        "study[0]: unknown table 'mian' | did you mean 'main'?",
    ),
    "unknown dataset": (
        ("      - clean", "      - claen"),
        "tables.main.datasets[0]: unknown dataset 'claen' | did you mean 'clean'?",
    ),
    "unknown model of a table": (
        ("      - mlp", "      - mpl"),
        "tables.main.models[0]: unknown model 'mpl' | did you mean 'mlp'?",
    ),
    "unknown method": (
        ("      - sgd-2x", "      - sgd-2"),
        "tables.main.methods[1]: unknown method 'sgd-2' | did you mean 'sgd-2x'?",
    ),
    "unknown method selected for": (
        ("      asam:\n        rho:", "      assam:\n        rho:"),
        "tables.main.select.assam: unknown method of this table 'assam' | did you mean 'asam'?",
    ),
    "unknown baseline": (
        ("    seeds: [0", "    baseline: [sdg]\n    seeds: [0"),
        "tables.main.baseline[0]: unknown method of this table 'sdg' | did you mean 'sgd'?",
    ),
    "unknown model": (
        ("    name: mlp", "    name: mpl"),
        "models.mlp.name: unknown model 'mpl' | did you mean 'mlp'?",
    ),
    "unknown ascent": (
        ("    ascent: asam", "    ascent: assam"),
        "methods.asam.ascent: unknown ascent 'assam' | did you mean 'asam'?",
    ),
    "unknown source": (
        ("    source: digits", "    source: digit"),
        "datasets.clean.source: unknown source 'digit' | did you mean 'digits'?",
    ),
    "negative rho": (
        ("    rho: selected", "    rho: -0.1"),
        "methods.sam.rho: -0.1 is not valid: must be greater than or equal to 0 or 'selected'",
    ),
    "rho that is a truth value": (
        ("    rho: selected", "    rho: true"),
        "methods.sam.rho: True is not valid: must be a number or 'selected'",
    ),
    "rho without ascent": (
        ("    base: sgd\n", "    base: sgd\n    rho: 0.1\n"),
        "methods.sgd.rho: the ascent 'none' has no rho | remove it",
    ),
    "selected rho without ascent": (
        ("    base: sgd\n", "    base: sgd\n    rho: selected\n"),
        "methods.sgd.rho: the ascent 'none' has no rho | remove it",
    ),
    "option out of range": (
        ("    eta: 0.01", "    eta: -1"),
        "methods.asam.eta: -1 is not valid: must be a finite number of at least 0",
    ),
    "option that is no number": (
        ("    eta: 0.01", "    eta: on"),
        "methods.asam.eta: 'on' is not valid: must be a finite number of at least 0",
    ),
    "option that is none of its words": (
        ("    eta: 0.01", "    parameters: biases"),
        "methods.asam.parameters: 'biases' is not valid: must be one of weights, all",
    ),
    "option too large for a float": (
        ("    eta: 0.01", f"    eta: {10**400}"),
        f"methods.asam.eta: {10**400} is not valid: must be a finite number of at least 0",
    ),
    "noise rate above one": (
        ("      rate: 0.4", "      rate: 1.4"),
        "datasets.noisy.noise.rate: 1.4 is not valid: must be less than or equal to 1",
    ),
    "noise without definition": (
        ("      definition: any-class\n", ""),
        "datasets.noisy.noise.definition: is required | any-class: drawn over all classes, so that a nominal 40% "
        "changes 36% of the labels of ten classes; another-class: drawn over the other classes, so that 40% changes "
        "40%",
    ),
    "unknown kind of noise": (
        ("      kind: symmetric", "      kind: symetric"),
        "datasets.noisy.noise.kind: 'symetric' is not valid: must be 'symmetric', 'asymmetric', 'pair_flip', "
        "'instance' or 'human' | did you mean 'symmetric' or 'asymmetric'?",
    ),
    "noise without kind": (
        ("      kind: symmetric\n", ""),
        "datasets.noisy.noise.kind: is required | valid: symmetric, asymmetric, pair_flip, instance, human",
    ),
    "human labels of a source without": (
        (
            "      kind: symmetric\n      rate: 0.4\n      definition: any-class",
            "      kind: human\n      labels: worst",
        ),
        "datasets.noisy.noise.labels: 'worst': people gave no such labels (digits has none) | human labels are "
        "published for cifar10: aggregate, random1, random2, random3, worst; cifar100: noisy",
    ),
    "unknown kind of source": (
        ("    source: digits\n    noise", "    source: {kind: image_foldr, path: a, size: 8}\n    noise"),
        "datasets.noisy.source.kind: 'image_foldr' is not valid: must be 'image_folder' or 'parquet' | did you mean "
        "'image_folder'?",
    ),
    "source without kind": (
        ("    source: digits\n    noise", "    source: {path: a, size: 8}\n    noise"),
        "datasets.noisy.source.kind: is required | valid: image_folder, parquet",
    ),
    "unknown key of a source": (
        ("    source: digits\n    noise", "    source: {kind: image_folder, path: a, size: 8, chanels: 1}\n    noise"),
        "datasets.noisy.source.chanels: unknown key | did you mean 'channels'?",
    ),
    "source without a path": (
        ("    source: digits\n    noise", "    source: {kind: image_folder, size: 8}\n    noise"),
        "datasets.noisy.source.path: is required",
    ),
    "source that is no name": (
        ("    source: digits\n    noise", "    source: 3\n    noise"),
        "datasets.noisy.source: 3 is not valid: must be a valid string",
    ),
    "test set of another source": (
        ("    - test", "    - test\n    - cifar10_1"),
        "evaluation.test_sets[1]: 'cifar10_1' is for runs on cifar10, and no dataset has that source | remove it, or "
        "add such a dataset",
    ),
    "test set twice": (
        ("    - test", "    - test\n    - test"),
        "evaluation.test_sets: 'test' is listed twice | name it once",
    ),
    "unknown corruption": (
        ("    - test", "    - test\n  corruptions:\n    names: [fog, frst]"),
        "evaluation.corruptions.names[1]: unknown corruption 'frst' | did you mean 'frost'?",
    ),
    "severity out of range": (
        ("    - test", "    - test\n  corruptions:\n    severities: [1, 6]"),
        "evaluation.corruptions.severities[1]: 6 is not valid: must be less than or equal to 5",
    ),
    "word with a nearest one": (
        ("  epochs: 4", "  schedule: cosin"),
        "training.schedule: 'cosin' is not valid: must be 'cosine', 'step' or 'constant' | did you mean 'cosine'?",
    ),
    "unknown base": (
        ("    base: sgd\n    ascent: asam", "    base: adamax\n    ascent: asam"),
        "methods.asam.base: 'adamax' is not valid: must be 'sgd', 'adam' or 'adamw' | did you mean 'adam' or 'adamw'?",
    ),
    "no seeds": (
        ("    seeds: [0, 1]", "    seeds: []"),
        "tables.main.seeds: [] is not valid: must hold at least 1",
    ),
    "negative seed": (
        ("    seeds: [0, 1]", "    seeds: [0, -1]"),
        "tables.main.seeds[1]: -1 is not valid: must be greater than or equal to 0",
    ),
    "duplicate seeds": (
        ("    seeds: [0, 1]", "    seeds: [0, 1, 0]"),
        "tables.main.seeds: 0 is listed twice | name it once",
    ),
    "duplicate seeds of the selection": (
        ("  seeds: [1000]", "  seeds: [1000, 1000]"),
        "selection.seeds: 1000 is listed twice | name it once",
    ),
    "duplicate dataset": (
        ("      - noisy", "      - clean"),
        "tables.main.datasets: 'clean' is listed twice | name it once",
    ),
    "seeds shared with the selection": (
        ("  seeds: [1000]", "  seeds: [1, 1000]"),
        "selection.seeds: seeds [1] are seeds of the table too | rho must be chosen on seeds of its own: use others, "
        "for example 1000 and up",
    ),
    "seeds shared with the table's own selection": (
        ("    select:", "    selection: {seeds: [0]}\n    select:"),
        "tables.main.selection.seeds: seeds [0] are seeds of the table too | rho must be chosen on seeds of its own: "
        "use others, for example 1000 and up",
    ),
    "unequal numbers of trials": (
        ("        rho: [0.1, 0.2]", "        rho: [0.1, 0.2, 0.5]"),
        "tables.main.select: every method needs the same number of trials (now sgd: 2, sam: 3, asam: 2) | a method "
        "that is tuned harder wins for that reason: make the grids equally large",
    ),
    "descending grid": (
        ("        rho: [0.1, 0.2]", "        rho: [0.2, 0.1]"),
        "tables.main.select.sam.rho: [0.2, 0.1] must be ascending and distinct | write [0.1, 0.2]",
    ),
    "negative rho in a grid": (
        ("        rho: [0.1, 0.2]", "        rho: [-0.1, 0.2]"),
        "tables.main.select.sam.rho[0]: -0.1 is not valid: must be greater than or equal to 0",
    ),
    "infinite rho in a grid": (
        ("        rho: [0.1, 0.2]", "        rho: [0.1, .inf]"),
        "tables.main.select.sam.rho[1]: inf is not valid: must be a finite number",
    ),
    "learning rate of zero in a grid": (
        ("        lr: [0.05, 0.1]", "        lr: [0, 0.1]"),
        "tables.main.select.sgd.lr: [0.0, 0.1] must be above 0 | a run at 0 does not train",
    ),
    "grid of what cannot be selected": (
        ("        lr: [0.05, 0.1]", "        lr: [0.1]\n        lrr: [0.05, 0.1]"),
        "tables.main.select.sgd.lrr: cannot be selected | did you mean 'lr'?",
    ),
    "grid of a rho that does not exist": (
        ("        lr: [0.05, 0.1]", "        lr: [0.05, 0.1]\n        rho: [0.1]"),
        "tables.main.select.sgd.rho: 'sgd' has no ascent, so no rho | remove it",
    ),
    "selected learning rate without grid": (
        ("        lr: [0.05, 0.1]", "        weight_decay: [0.0, 1.0e-3]"),
        "training.lr: is 'selected', but table 'main' has no grid of lr for 'sgd', 'sgd-2x', 'sam', 'asam' | add "
        "tables.main.select.sgd.lr: [...], or write a number",
    ),
    "selected rho without grid": (
        ("      sam:\n        rho: [0.1, 0.2]\n", ""),
        "methods.sam.rho: is 'selected', but table 'main' has no grid of rho for 'sam' | add "
        "tables.main.select.sam.rho: [...], or write a number",
    ),
    "selected weight decay of a method without grid": (
        ("      epochs: 16", "      weight_decay: selected"),
        "methods.sgd-2x.training.weight_decay: is 'selected', but table 'main' has no grid of weight_decay for "
        "'sgd-2x' | add tables.main.select.sgd-2x.weight_decay: [...], or write a number",
    ),
    "learning rate that is a word": (
        ("  lr: selected", "  lr: on"),
        "training.lr: 'on' is not valid: must be a valid number or 'selected'",
    ),
    "epochs that are a truth value": (
        ("  epochs: 4", "  epochs: true"),
        "training.epochs: True is not valid: must be a number",
    ),
    "epochs of a method": (
        ("      epochs: 16", "      epochs: 0"),
        "methods.sgd-2x.training.epochs: 0 is not valid: must be greater than or equal to 1",
    ),
    "nesterov without momentum": (
        ("  epochs: 4", "  momentum: 0"),
        "training: nesterov needs a momentum above 0: set nesterov: false or momentum: 0.9",
    ),
    "nesterov without momentum in a method": (
        ("      epochs: 16", "      momentum: 0"),
        "methods.sgd-2x.training: nesterov needs a momentum above 0: set nesterov: false or momentum: 0.9",
    ),
    "unknown test set": (
        ("    - test", "    - tests"),
        "evaluation.test_sets[0]: unknown test set 'tests' | did you mean 'test'?",
    ),
    "list instead of a mapping": (
        ("models:\n  mlp:\n    name: mlp\n    args:\n      hidden: [16]\n", "models:\n  - mlp\n"),
        "models: ['mlp'] is not valid: must be a valid dictionary",
    ),
    "missing section": (
        ("selection:\n  seeds: [1000]\n", ""),
        "selection: is required",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_place_value_and_fix(tmp_path: Path, what: str) -> None:
    replaced, expected = REFUSED[what]
    assert expected in blocks(refusal(tmp_path, changed(replaced)))


CONSEQUENCES = {
    "unknown method",  # the table's grids lack it, too
    "unknown method selected for",  # and asam's rho is then without a grid
}


@pytest.mark.parametrize("what", sorted(REFUSED.keys() - CONSEQUENCES))
def test_one_mistake_is_one_problem(tmp_path: Path, what: str) -> None:
    problems = blocks(refusal(tmp_path, changed(REFUSED[what][0])))
    assert len(problems) == 1, problems


@pytest.mark.parametrize("name", ["cifar.10", "Clean", "-clean", "a b"])
def test_a_name_that_dvc_could_not_use_is_refused(tmp_path: Path, name: str) -> None:
    problems = blocks(refusal(tmp_path, changed(("  clean:\n", f"  {name}:\n"))))
    assert problems[0] == (
        f"datasets.{name}: '{name}' is no name: a name may hold a-z, 0-9, _ and -, and starts with a letter or digit"
    )


def test_a_name_that_yaml_reads_as_a_number_is_refused_with_the_way_out(tmp_path: Path) -> None:
    problems = blocks(refusal(tmp_path, changed(("  clean:\n", "  10:\n"))))
    assert problems[0].startswith("datasets.10: 10 is no name")
    assert "put it in quotes" in problems[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (changed(("  epochs: 4\n", "  epochs: 4\n  epochs: 5\n")), 'found duplicate key "epochs"'),
        (changed(("  sgd:\n    base", "  sam: {base: sgd}\n  sgd:\n    base")), 'found duplicate key "sam"'),
        ("study: [main\n", "not valid YAML: line 2"),
        ("study: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("- study\n- tables\n", "must be a mapping of sections"),
        ("", "must be a mapping of sections"),
        ("42\n", "must be a mapping of sections"),
        (TEXT + "---\n" + TEXT, "found another document"),
        ("1: 2\n", "unknown key"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in str(refusal(tmp_path, text))


def test_a_duplicate_key_is_shown_with_its_line(tmp_path: Path) -> None:
    text = changed(("  epochs: 4\n", "  epochs: 4\n  epochs: 5\n"))
    line = text[: text.index("  epochs: 5")].count("\n") + 1
    assert f"line {line}, column 3" in str(refusal(tmp_path, text))


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"{re.escape(str(tmp_path))}/params\.yaml: no such file"):
        load(tmp_path / "params.yaml", vocabulary())


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read: Is a directory"):
        load(tmp_path, vocabulary())


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"study: \xff\xfe\n")
    with pytest.raises(StudyError, match="not valid YAML"):
        load(tmp_path / "params.yaml", vocabulary())


@pytest.mark.parametrize(
    "section", [line.removesuffix(":") for line in TEXT.split("\n") if re.fullmatch(r"\w+:", line)]
)
def test_every_section_is_required(tmp_path: Path, section: str) -> None:
    text = re.sub(rf"^{section}:\n(?:  .*\n|\n)*", "", TEXT, flags=re.M)
    assert f"{section}: is required" in blocks(refusal(tmp_path, text))


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    text = changed(
        ("      - noisy\n", "      - nosy\n"),  # a name
        (
            "        rho: [0.5, 1.0]",
            "        rho: [1.0, 0.5]",
        ),  # in the table that the name is in: seen once it is right
        ("      fraction: 0.2", "      fraction: 2"),  # a value
        ("    rho: selected\n", "    rho: -1\n"),  # a value
        ("      definition: any-class\n", ""),  # a required key
        ("    eta: 0.01", "    eta: -1"),  # an option, known to the ascent alone
        ("      epochs: 16", "      epocs: 16"),  # a key of an override
        ("  batch_size: 64", "  batch_siez: 64"),  # a key of a section
        ("    name: mlp", "    name: mpl"),  # a name that timm could know
        ("  seeds: [1000]", "  seeds: [1000, 1000]"),
    )
    places = [problem.partition(": ")[0] for problem in blocks(refusal(tmp_path, text))]
    assert sorted(places) == [
        "datasets.clean.validation.fraction",
        "datasets.noisy.noise.definition",
        "methods.asam.eta",
        "methods.sam.rho",
        "methods.sgd-2x.training.epocs",
        "models.mlp.name",
        "selection.seeds",
        "tables.main.datasets[1]",
        "training.batch_siez",
    ]


def test_a_refused_entry_does_not_make_its_name_unknown(tmp_path: Path) -> None:
    text = changed(("  sgd:\n    base: sgd", "  sgd:\n    base: sgdd"), ("    name: mlp", "    name: mpl"))
    places = [problem.partition(": ")[0] for problem in blocks(refusal(tmp_path, text))]
    assert sorted(places) == ["methods.sgd.base", "models.mlp.name"]


def _leaves(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place, *(leaf for key, child in items for leaf in _leaves(child, (*place, key)))]


@pytest.mark.parametrize("nonsense", [None, True, -3, "on", [], {}, ["x"], {"x": [1]}, {1: 2}, float("nan")])
def test_nonsense_anywhere_ends_in_a_study_or_a_refusal(tmp_path: Path, nonsense: object) -> None:
    names = vocabulary()
    for place in _leaves(YAML(typ="safe").load(TEXT))[1:]:
        content = YAML(typ="safe").load(TEXT)
        here = content
        for key in place[:-1]:
            here = here[key]
        here[place[-1]] = nonsense
        path = tmp_path / "params.yaml"
        with path.open("w") as file:
            YAML(typ="safe").dump(content, file)
        try:
            load(path, names)
        except FlatminError as error:
            assert len(str(error).split("\n")) > 1  # noqa: PT017
