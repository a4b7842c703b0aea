"""A run's key changes with everything that determines its result, and with nothing else."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flatmin import catalogue, keys
from flatmin.catalogue import Option
from flatmin.codehash import OUTSIDE, closure
from flatmin.data.errors import DataError
from flatmin.data.manifest import draw_folder, images_folder, write_manifest
from flatmin.keys import evaluation_key, run_identity, sharpness_key
from flatmin.reading import load
from flatmin.settings import (
    Count,
    DatasetSpec,
    EvaluationSpec,
    Fraction,
    RunSettings,
    Settings,
    SharpnessSpec,
    TrainingSpec,
    Validation,
    keyed,
    setting,
)
from flatmin.study import PlannedRun, Vocabulary
from flatmin.vocabulary import vocabulary

PACKAGE = Path(keys.__file__).parent


def write_prepared(root: Path, dataset: str = "digits", seeds: tuple[int, ...] = (0, 1), content: str = "0") -> Path:
    """Write the manifests that a key reads of prepared data."""
    images = images_folder(root, "digits")
    images.mkdir(parents=True, exist_ok=True)
    write_manifest(images, {"kind": "images", "version": 1, "content_hash": "a" * 64})
    for seed in seeds:
        folder = draw_folder(root, dataset, seed)
        folder.mkdir(parents=True)
        manifest = {"kind": "draw", "version": 1, "content_hash": content * 63 + str(seed)}
        write_manifest(folder, manifest)
    return root


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "prepared")


def run(**changes: Any) -> RunSettings:
    """Return the settings of a run of SAM on digits, with sections replaced."""
    parts: dict[str, Any] = {
        "dataset": {"source": "digits"},
        "model": {"name": "mlp", "args": {"hidden": [16]}},
        "method": {"base": "sgd", "ascent": "sam", "rho": 0.05},
        "training": TrainingSpec(),
        "seed": 0,
    }
    return RunSettings.model_validate({**parts, **changes})


def key(prepared: Path, **changes: Any) -> str:
    return run_identity(run(**changes), prepared, "digits").key


# --- settings ---------------------------------------------------------------------------------------------------------

INTRODUCED = {
    "AsymmetricNoise.pairs": "usual",
    "Validation.fraction": 0.1,
    "Validation.labels": "noisy",
    "DatasetSpec.noise": None,
    "DatasetSpec.train_size": None,
    "DatasetSpec.validation": {},
    "DatasetSpec.draw_seed": None,
    "ModelSpec.stem": "native",
    "ModelSpec.args": {},
    "Augmentation.flip": False,
    "Augmentation.pad": 0,
    "Augmentation.padding": "reflect",
    "Augmentation.policy": "none",
    "Augmentation.operations": 2,
    "Augmentation.magnitude": 9,
    "Augmentation.cutout": 0,
    "Augmentation.cutout_per": "image",
    "Augmentation.erasing": 0.0,
    "Augmentation.mixup": 0.0,
    "Augmentation.cutmix": 0.0,
    "Augmentation.mix_per": "batch",
    "TrainingSpec.epochs": 200,
    "TrainingSpec.batch_size": 256,
    "TrainingSpec.lr": 0.1,
    "TrainingSpec.momentum": 0.9,
    "TrainingSpec.nesterov": True,
    "TrainingSpec.betas": (0.9, 0.999),
    "TrainingSpec.weight_decay": 0.0005,
    "TrainingSpec.weight_decay_in": "base",
    "TrainingSpec.micro_batch": None,
    "TrainingSpec.schedule": "cosine",
    "TrainingSpec.warmup_epochs": 0.0,
    "TrainingSpec.milestones": (0.3, 0.6, 0.8),
    "TrainingSpec.step_factor": 0.2,
    "TrainingSpec.clip_norm": None,
    "TrainingSpec.label_smoothing": 0.0,
    "TrainingSpec.augmentation": {},
    "TrainingSpec.precision": "fp32",
    "TrainingSpec.memory_format": "contiguous",
    "TrainingSpec.patience": 20,
    "ResolvedMethod.rho": 0.0,
    "ResolvedMethod.options": {},
    "EvaluationSpec.test_sets": ("test",),
    "EvaluationSpec.ece_bins": 15,
    "EvaluationSpec.corruptions": {},
    "CorruptionSpec.names": "main",
    "CorruptionSpec.severities": (1, 2, 3, 4, 5),
    "CorruptionSpec.images": None,
    "CorruptionSpec.seed": 0,
    "SharpnessSpec.rho": 0.05,
    "SharpnessSpec.steps": 10,
    "SharpnessSpec.samples": 1000,
}
"""What every setting was when it was introduced. Add a line with a new setting; never change one: every key would."""

OPTIONS_INTRODUCED = {
    "asam": {"rho": 0.5, "eta": 0.01, "parameters": "weights", "norm": "l2", "unit": "element"},
    "esam": {"rho": 0.05, "beta": 0.6, "gamma": 0.5},
    "fisher": {"rho": 0.1, "eta": 1.0},
    "gsam": {"rho": 0.05, "alpha": 0.4},
    "looksam": {"rho": 0.1, "k": 5, "alpha": 0.7},
    "none": {},
    "random": {"rho": 0.05},
    "sam": {"rho": 0.05, "norm": "l2"},
}
"""The same for the options of ascents. An ascent that is not here is new."""

USES_INTRODUCED = {
    "every": 1,
    "steps": 1,
    "m": 0,
    "ragged": "weighted",
    "fraction": 1.0,
    "only": "all",
    "depth": 1.0,
    "statistics": "clean",
    "masks": "shared",
    "true_gradient": "ascent",
    "rho_schedule": "constant",
    "rho_end": 0.0,
    "rho_warmup": 0.0,
    "rho_start": 0.0,
}
"""The same for what all ascents with a rho share: the regime and rho's schedule."""


def keyed_sections(section: type[Settings]) -> Iterator[type[Settings]]:
    """Yield a section and those inside it."""
    yield section
    for field in section.model_fields.values():
        for inner in settings_in(field.annotation):
            yield from keyed_sections(inner)


def settings_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in settings_in(argument)]


SECTIONS = {s.__name__: s for top in (RunSettings, EvaluationSpec, SharpnessSpec) for s in keyed_sections(top)}


def test_the_value_at_introduction_is_never_changed() -> None:
    found = {
        f"{section.__name__}.{name}": field.json_schema_extra["introduced"]
        for section in SECTIONS.values()
        for name, field in section.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("keyed", True)
    }
    assert found == INTRODUCED


def test_every_setting_of_a_key_that_has_a_default_says_when_it_is_left_out() -> None:
    without = [
        f"{section.__name__}.{name}"
        for section in SECTIONS.values()
        for name, field in section.model_fields.items()
        if not field.is_required()
        and f"{section.__name__}.{name}" not in INTRODUCED
        and not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("keyed") is False)
    ]
    assert without == []


@pytest.mark.parametrize("ascent", OPTIONS_INTRODUCED)
def test_an_option_s_value_at_introduction_is_never_changed(ascent: str) -> None:
    options = catalogue.ascents()[ascent]
    frozen = OPTIONS_INTRODUCED[ascent] | (USES_INTRODUCED if OPTIONS_INTRODUCED[ascent] else {})
    assert options.keys() == frozen.keys()
    assert {name: options[name].introduced for name in frozen} == frozen


class LaterDefault(TrainingSpec):
    """The section after its default of one setting has changed."""

    patience: Count = setting(30, introduced=20)


class LaterOption(TrainingSpec):
    """The section after a setting was added."""

    mixup: Fraction = setting(0.0, introduced=0.0)


class LaterValidation(Validation):
    """An inner section after a setting was added."""

    shuffled: bool = setting(False, introduced=False)


class LaterValidationDefault(Validation):
    """An inner section after its default of one setting has changed."""

    fraction: Fraction = setting(0.2, introduced=0.1)


def test_a_changed_default_changes_the_keys_that_rely_on_it(prepared: Path) -> None:
    assert key(prepared, training=LaterDefault()) != key(prepared, training=TrainingSpec())


def test_a_changed_default_leaves_the_keys_of_those_that_write_the_setting(prepared: Path) -> None:
    for patience in (5, 20, 30):
        later, earlier = LaterDefault(patience=patience), TrainingSpec(patience=patience)
        assert key(prepared, training=later) == key(prepared, training=earlier)


def test_a_changed_default_of_an_inner_section_changes_the_keys_that_rely_on_it(prepared: Path) -> None:
    assert _key_with(LaterValidationDefault(), prepared) != _key_with(Validation(), prepared)
    assert _key_with(LaterValidationDefault(fraction=0.1), prepared) == _key_with(Validation(), prepared)
    assert _key_with(LaterValidationDefault(), prepared) == _key_with(Validation(fraction=0.2), prepared)


def _key_with(validation: Validation, prepared: Path) -> str:
    return key(prepared, dataset=DatasetSpec(source="digits", validation=validation))


def test_a_new_option_changes_no_key_until_it_is_used(prepared: Path) -> None:
    assert key(prepared, training=LaterOption()) == key(prepared, training=TrainingSpec())
    assert key(prepared, training=LaterOption(mixup=0.2)) != key(prepared, training=TrainingSpec())


@pytest.mark.parametrize("written", [{}, {"labels": "clean"}])
def test_a_new_option_of_an_inner_section_changes_no_key_until_it_is_used(
    prepared: Path, written: dict[str, Any]
) -> None:
    assert _key_with(LaterValidation(**written), prepared) == _key_with(Validation(**written), prepared)
    assert _key_with(LaterValidation(shuffled=True, **written), prepared) != _key_with(Validation(**written), prepared)


@pytest.mark.parametrize("path", [name for name in INTRODUCED if name.startswith("TrainingSpec.")])
def test_writing_the_value_at_introduction_is_leaving_it_out(path: str) -> None:
    name = path.partition(".")[2]
    assert keyed(TrainingSpec.model_validate({name: INTRODUCED[path]})) == {}


def test_writing_an_inner_section_out_is_leaving_it_out(prepared: Path) -> None:
    written = {"source": "digits", "noise": None, "validation": {"fraction": 0.1, "labels": "noisy"}}
    assert key(prepared, dataset=DatasetSpec.model_validate(written)) == key(prepared)


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "rho": {"method": {"base": "sgd", "ascent": "sam", "rho": 0.1}},
    "ascent": {"method": {"base": "sgd", "ascent": "asam", "rho": 0.05}},
    "base": {"method": {"base": "adamw", "ascent": "sam", "rho": 0.05}},
    "option": {"method": {"base": "sgd", "ascent": "sam", "rho": 0.05, "options": {"x": 1}}},
    "model": {"model": {"name": "cifar_cnn"}},
    "model argument": {"model": {"name": "mlp", "args": {"hidden": [32]}}},
    "stem": {"model": {"name": "mlp", "args": {"hidden": [16]}, "stem": "cifar"}},
    "learning rate": {"training": TrainingSpec(lr=0.05)},
    "precision": {"training": TrainingSpec(precision="bf16")},
    "memory format": {"training": TrainingSpec(memory_format="channels_last")},
    "augmentation": {"training": TrainingSpec.model_validate({"augmentation": {"flip": True}})},
    "noise": {"dataset": {"source": "digits", "noise": {"kind": "asymmetric", "rate": 0.1}}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_key_changes_with_every_setting(prepared: Path, what: str) -> None:
    assert key(prepared, **CHANGES[what]) != key(prepared)


def test_all_these_keys_are_different(prepared: Path) -> None:
    found = {key(prepared, **changes) for changes in CHANGES.values()}
    assert len(found) == len(CHANGES)


def test_the_key_changes_with_the_data(tmp_path: Path, prepared: Path) -> None:
    other = write_prepared(tmp_path / "other", content="1")
    assert key(prepared) != key(other)


def test_seeds_with_the_same_draw_have_keys_of_their_own(tmp_path: Path) -> None:
    root = write_prepared(tmp_path / "prepared")
    for seed in (0, 1):
        manifest = {"kind": "draw", "version": 1, "content_hash": "c" * 64}
        write_manifest(draw_folder(root, "digits", seed), manifest)
    assert key(root, seed=0) != key(root, seed=1)


def test_there_is_no_key_without_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not prepared"):
        key(tmp_path)


# --- through a study --------------------------------------------------------------------------------------------------

TEXT = """\
study: [main]
tables:
  main: {datasets: [digits], models: [mlp], methods: [sgd, sam, asam], seeds: [0]}
datasets:
  digits: {source: digits}
models:
  mlp: {name: mlp, args: {hidden: [16]}}
methods:
  sgd: {base: sgd}
  sam: {base: sgd, ascent: sam}
  asam: {base: sgd, ascent: asam}
training: {epochs: 2}
selection: {}
evaluation: {}
sharpness: {}
"""


def planned(tmp_path: Path, text: str = TEXT, names: Vocabulary | None = None) -> dict[str, PlannedRun]:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    study = load(path, names or vocabulary())
    [table] = study.tables
    return {run.method: run for run in study.runs(table, {})}


def study_keys(tmp_path: Path, root: Path, text: str = TEXT, names: Vocabulary | None = None) -> dict[str, str]:
    return {
        method: run_identity(run.settings, root, run.dataset).key
        for method, run in planned(tmp_path, text, names).items()
    }


def with_option(**changes: Option) -> Vocabulary:
    """Return the vocabulary in which asam has other options."""
    known = vocabulary()
    ascents = {**known.ascents, "asam": {**known.ascents["asam"], **changes}}
    return replace(known, ascents=ascents)


@pytest.mark.parametrize(
    "renamed",
    [
        {"  mlp: {name": "  net: {name", "[mlp]": "[net]"},
        {"  digits: {source": "  pictures: {source", "[digits]": "[pictures]"},
        {"  main: {datasets": "  other: {datasets", "[main]": "[other]"},
        {"  sam: {base": "  sharp: {base", " sam,": " sharp,"},
    ],
    ids=["model", "dataset", "table", "method"],
)
def test_names_play_no_part(tmp_path: Path, renamed: dict[str, str]) -> None:
    text = TEXT
    for old, new in renamed.items():
        assert old in text
        text = text.replace(old, new)
    prepared = write_prepared(tmp_path / "prepared")
    under_new_name = write_prepared(tmp_path / "renamed", "pictures" if "pictures" in text else "digits")
    assert [*study_keys(tmp_path, under_new_name, text).values()] == [*study_keys(tmp_path, prepared).values()]


def test_a_changed_default_of_an_option_changes_the_keys_of_its_ascent_alone(tmp_path: Path, prepared: Path) -> None:
    now = study_keys(tmp_path, prepared)
    later = study_keys(tmp_path, prepared, names=with_option(eta=Option(0.02, introduced=0.01, at_least=0.0)))
    assert {method for method in now if now[method] != later[method]} == {"asam"}


def test_a_new_option_of_an_ascent_changes_no_key(tmp_path: Path, prepared: Path) -> None:
    later = with_option(power=Option(1.0, introduced=1.0, at_least=0.0))
    assert study_keys(tmp_path, prepared, names=later) == study_keys(tmp_path, prepared)


def test_an_option_written_at_its_default_is_the_key_without_it(tmp_path: Path, prepared: Path) -> None:
    written = TEXT.replace("ascent: asam}", "ascent: asam, rho: 0.5, eta: 1e-2, parameters: weights}")
    assert written != TEXT
    assert study_keys(tmp_path, prepared, written) == study_keys(tmp_path, prepared)


def test_a_run_is_given_the_option_that_its_study_writes_whatever_became_of_the_default(tmp_path: Path) -> None:
    later = with_option(eta=Option(0.02, introduced=0.01, at_least=0.0))
    written = TEXT.replace("ascent: asam}", "ascent: asam, eta: 0.01}")
    assert planned(tmp_path, written, later)["asam"].settings.method.options == {"eta": 0.01}
    assert planned(tmp_path, TEXT, later)["asam"].settings.method.options == {"eta": 0.02}


# --- measurements -----------------------------------------------------------------------------------------------------


def test_a_measurement_s_key_changes_with_its_run_and_its_settings() -> None:
    found = {
        evaluation_key("a", EvaluationSpec()),
        evaluation_key("b", EvaluationSpec()),
        evaluation_key("a", EvaluationSpec(ece_bins=10)),
        sharpness_key("a", SharpnessSpec()),
        sharpness_key("b", SharpnessSpec()),
        sharpness_key("a", SharpnessSpec(steps=5)),
    }
    assert len(found) == 6


def test_a_measurement_s_settings_written_at_their_defaults_are_the_key_without_them() -> None:
    written = EvaluationSpec.model_validate({"test_sets": ["test"], "ece_bins": 15})
    assert evaluation_key("a", written) == evaluation_key("a", EvaluationSpec())


# --- code -------------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from pathlib import Path
from flatmin.keys import evaluation_key, run_identity, sharpness_key
from flatmin.settings import EvaluationSpec, RunSettings, SharpnessSpec
names = {}
for ascent, model in (("sam", "mlp"), ("asam", "mlp"), ("none", "mlp"), ("sam", "cifar_cnn"), ("sam", "resnet18")):
    run = RunSettings.model_validate({"dataset": {"source": "digits"}, "model": {"name": model}, "seed": 0,
                                      "method": {"base": "sgd", "ascent": ascent}, "training": {}})
    names[f"{ascent} {model}"] = run_identity(run, Path(sys.argv[1]), "digits").key
names["evaluation"] = evaluation_key("k", EvaluationSpec())
names["sharpness"] = sharpness_key("k", SharpnessSpec())
print(json.dumps(names))
"""

RUNS = {"sam mlp", "asam mlp", "none mlp", "sam cifar_cnn", "sam resnet18"}
MEASUREMENTS = {"evaluation", "sharpness"}


def computed(source: Path, prepared: Path, **environment: str) -> dict[str, str]:
    """Return the keys that the package in the folder ``source`` computes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(prepared)],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def as_it_is(data: Path) -> dict[str, str]:
    return computed(PACKAGE.parent, data)


def append(file: str, text: str) -> Callable[[Path], None]:
    def edit(package: Path) -> None:
        assert (package / file).exists()
        with (package / file).open("a") as stream:
            stream.write(text)

    return edit


def create(file: str, text: str) -> Callable[[Path], None]:
    def edit(package: Path) -> None:
        assert not (package / file).exists()
        (package / file).write_text(text)

    return edit


def reword(package: Path) -> None:
    """Change every comment, docstring and blank line of the package, and nothing that is executed."""
    for path in package.rglob("*.py"):
        lines = path.read_text().split("\n")
        tree = ast.parse("\n".join(lines))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                line = lines[node.lineno - 1]
                if line.count('"""') == 2:
                    lines[node.lineno - 1] = (
                        line[: line.index('"""')] + '"""Reworded."""' + line[line.rindex('"""') + 3 :]
                    )
                else:
                    lines[node.lineno - 1] = line + " Reworded,"
        text = "\n".join(lines) + "\n\n\n# A new comment.\n"
        path.write_text(text)
        ast.parse(text)


NEW_ASCENT = '''"""A new ascent."""

from dataclasses import dataclass
from typing import ClassVar

from ..ascent import Ascent


@dataclass(frozen=True)
class NewAscent(Ascent):
    """Nothing."""

    name: ClassVar[str] = "new"
'''

NEW_MODEL = '''"""A new model."""

from timm.models import register_model


@register_model
def new_model(pretrained=False, **kwargs):
    """Nothing."""
'''

CODE = "\n\ndef added():\n    return 1\n"

EDITS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "reworded comments and docstrings": (reword, set()),
    "a new ascent": (create("optim/ascents/new.py", NEW_ASCENT), set()),
    "a new model": (create("models/new.py", NEW_MODEL), set()),
    "a new source": (create("data/sources/new.py", '"""A new source."""\n' + CODE), set()),
    "another source": (append("data/sources/cifar10.py", CODE), set()),
    "the MLflow view": (append("tracking/tracker.py", CODE), set()),
    "the command line": (append("cli.py", CODE), set()),
    "the results": (append("results/tables.py", CODE), set()),
    "the executor": (append("executor.py", CODE), set()),
    "the declaration of settings": (append("settings/run.py", CODE), set()),
    "the study": (append("study.py", CODE), set()),
    "the training loop": (append("training/loop.py", CODE), RUNS),
    "the step": (append("optim/step.py", CODE), RUNS),
    "the schedule": (append("training/schedule.py", CODE), RUNS),
    "the batches": (append("data/batches.py", CODE), RUNS | MEASUREMENTS),
    "the augmentation": (append("data/augmentation/policies.py", CODE), RUNS),
    "SAM": (append("optim/ascents/sam.py", CODE), {"sam mlp", "sam cifar_cnn", "sam resnet18"}),
    "the geometry of ascents": (append("optim/geometry.py", CODE), RUNS - {"none mlp"}),
    "one model": (append("models/cifar_cnn.py", CODE), {"sam cifar_cnn"}),
    "the metrics": (append("evaluation/metrics.py", CODE), MEASUREMENTS),
    "the sharpness": (append("sharpness/ascent.py", CODE), {"sharpness"}),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_changes_the_keys_of_what_it_could_change(
    tmp_path: Path, data: Path, as_it_is: dict[str, str], what: str
) -> None:
    edit, expected = EDITS[what]
    package = tmp_path / "flatmin"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    edit(package)
    edited = computed(tmp_path, data)
    assert {name for name in as_it_is if as_it_is[name] != edited[name]} == expected


def test_paths_and_environment_play_no_part(tmp_path: Path, as_it_is: dict[str, str]) -> None:
    shutil.copytree(PACKAGE, tmp_path / "else where" / "flatmin", ignore=shutil.ignore_patterns("__pycache__"))
    root = write_prepared(tmp_path / "other place")
    variables = {
        "FLATMIN_WORKERS": "7",
        "FLATMIN_SCHEDULER": "inline",
        "FLATMIN_DEVICE": "cpu",
        "FLATMIN_MIRROR": "/nowhere",
        "OMP_NUM_THREADS": "3",
        "PYTHONHASHSEED": "42",
        "MLFLOW_TRACKING_URI": "http://localhost:1",
    }
    assert computed(tmp_path / "else where", root, **variables) == as_it_is


def test_an_edit_of_executed_code_is_seen_in_the_package_itself(tmp_path: Path, data: Path) -> None:
    """What decides is the statement, not the length of a file: one number of the loop is another key."""
    package = tmp_path / "flatmin"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = package / "training" / "schedule.py"
    numbers = [n for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.Constant) and n.value == 0.5]
    lines = source.read_text().split("\n")
    first = numbers[0]
    line = lines[first.lineno - 1]
    lines[first.lineno - 1] = f"{line[: first.col_offset]}0.25{line[first.end_col_offset :]}"
    source.write_text("\n".join(lines))
    before, after = computed(PACKAGE.parent, data), computed(tmp_path, data)
    assert {name for name in before if before[name] != after[name]} == RUNS


# --- the house --------------------------------------------------------------------------------------------------------

MODULES = {
    ".".join(["flatmin", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

FLOORS: list[set[str]] = [
    {"errors", "settings", "randomness", "devices", "catalogue", "codehash", "problems"},
    {"records", "store", "workplace", "study", "checks", "reading", "workspace"},
    {"data", "models", "optim"},
    {"evaluation"},
    {"training", "sharpness"},
    {"vocabulary", "keys", "work", "pretrained"},
    {"executor", "progress", "driver", "fanout"},
    {"planning", "data_items", "weight_items", "selection", "presets", "housekeeping", "results"},
    {"tracking", "collect", "frames", "garbage", "forecast", "data_view", "model_view", "claims_view"},
    {"stages", "reporting", "show", "ui"},
    {"cli", "__main__"},
]
"""From the ground up; a module imports from its own floor and from those below."""

WINGS = {"data", "models", "optim", "training", "sharpness", "results"}
"""Packages that no neighbour on their floor may import."""


def imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports, wherever in the file."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return {name for name in found if name in MODULES and name != "flatmin"}


def outside_imports(module: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


def part(module: str) -> str:
    return module.split(".")[1]


def floor(module: str) -> int:
    return next(i for i, modules in enumerate(FLOORS) if part(module) in modules)


PARTS = [module for module in MODULES if module != "flatmin"]


def test_every_module_has_a_floor() -> None:
    there = {part(module) for module in PARTS}
    assert there - set().union(*FLOORS) == set()


@pytest.mark.parametrize("module", PARTS)
def test_nothing_imports_upward(module: str) -> None:
    assert {name for name in imports(module) if floor(name) > floor(module)} == set()


@pytest.mark.parametrize("module", [module for module in PARTS if part(module) in WINGS])
def test_neighbouring_packages_do_not_know_each_other(module: str) -> None:
    neighbours = {name for name in imports(module) if floor(name) == floor(module) and part(name) != part(module)}
    assert {name for name in neighbours if part(name) in WINGS} == set()


def test_no_import_goes_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for name in imports(module) - {module}:
                visit(name, (*trail, module))
            done.add(module)

    for module in PARTS:
        visit(module, ())
    assert done == set(PARTS)


@pytest.mark.parametrize("module", [module for module in PARTS if part(module) == "optim"])
def test_the_step_knows_torch_and_the_standard_library_alone(module: str) -> None:
    assert outside_imports(module) <= {"torch", *sys.stdlib_module_names}
    assert all(part(name) == "optim" for name in imports(module))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_a_package_file_holds_imports_and_names_alone(path: Path) -> None:
    """The code hash leaves these files out, so nothing in them may determine a result."""
    for node in ast.parse(path.read_text()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] in (
            ["__all__"],
            ["__version__"],
        )
        assert docstring or names or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


def test_what_a_run_executes_imports_nothing_heavy() -> None:
    roots = [keys.TRAIN, keys.EVALUATE, keys.SHARPNESS, *(f"flatmin.optim.ascents.{a}" for a in catalogue.ascents())]
    roots += [name for model in catalogue.models() for name in keys.own_model(model)]
    executed = closure([*roots, "flatmin.work"]) | {name for name in OUTSIDE if name in MODULES}
    assert executed >= {"flatmin.training.loop", "flatmin.optim.step", "flatmin.work"}
    heavy = {"dvc", "mlflow", "dask", "distributed", "pandas", "matplotlib"}
    assert {module for module in executed if outside_imports(module) & heavy} == set()


def test_the_closure_is_what_the_imports_say() -> None:
    """An independent reading of the same files finds the same modules."""
    waiting, found = [keys.TRAIN], set()
    while waiting:
        module = waiting.pop()
        if module not in found and module not in OUTSIDE:
            found.add(module)
            waiting += imports(module)
    assert closure([keys.TRAIN]) == found
