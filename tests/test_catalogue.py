"""What the catalogue reads from source files is what the imported packages say; reading it imports nothing heavy."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from flatmin import catalogue


def test_models_are_found_in_the_files_that_timm_reports() -> None:
    import timm

    import flatmin.models  # registers them

    registered = {
        name: Path(str(sys.modules[timm.models.model_entrypoint(name).__module__].__file__))
        for name in timm.list_models()
        if timm.models.model_entrypoint(name).__module__.startswith(f"{flatmin.models.__name__}.")
    }
    assert dict(catalogue.models()) == registered
    assert "cifar_resnet20" in registered


@pytest.mark.parametrize("name", sorted(catalogue.ascents()))
def test_options_are_those_of_the_class(name: str) -> None:
    from flatmin.optim import Regime, RhoSchedule, load

    parts = [load(name), *([] if name == "none" else [Regime, RhoSchedule])]
    fields = [field for part in parts for field in dataclasses.fields(part)]
    read = catalogue.ascents()[name]
    assert list(read) == [field.name for field in fields]  # no two parts share a name
    for field in fields:
        option = read[field.name]
        assert option.default == field.default
        assert {limit: getattr(option, limit) for limit in field.metadata} == field.metadata


def test_ascents_are_those_of_the_registry() -> None:
    from flatmin.optim.registry import names

    assert sorted(catalogue.ascents()) == names()


@pytest.mark.parametrize(
    ("name", "option", "bad"),
    [
        ("sam", "rho", -0.1),
        ("sam", "rho", float("inf")),
        ("sam", "rho", True),
        ("asam", "parameters", "biases"),
        ("sam", "every", 0),
        ("sam", "every", 2.5),
        ("sam", "fraction", 0.0),
        ("sam", "fraction", 1.5),
        ("esam", "beta", 0),
        ("sam", "rho_start", -0.1),
        ("sam", "rho_schedule", "linear"),
        ("asam", "only", "norms"),
    ],
)
def test_what_the_catalogue_refuses_the_class_refuses_too(name: str, option: str, bad: object) -> None:
    from flatmin.optim import configured

    assert catalogue.ascents()[name][option].problem(bad)
    with pytest.raises(ValueError, match=option):
        configured(name, **{option: bad})


@pytest.mark.parametrize("edge", [{"every": 1}, {"fraction": 1.0}, {"fraction": 0.01}, {"rho_end": 1.0}, {"m": 0}])
def test_what_is_on_the_edge_is_taken_by_both(edge: dict[str, float]) -> None:
    from flatmin.optim import configured

    configured("sam", **edge)
    assert [catalogue.ascents()["sam"][option].problem(value) for option, value in edge.items()] == [None]


def test_a_model_registered_twice_is_refused(tmp_path: Path) -> None:
    source = "@register_model\ndef twin(pretrained=False):\n    ...\n"
    (tmp_path / "one.py").write_text(source)
    (tmp_path / "two.py").write_text(source.replace("@register", "@timm.models.register"))
    with pytest.raises(ValueError, match=r"twin.*twice"):
        catalogue.models(tmp_path)


def test_synonyms_belong_to_the_function_that_they_decorate(tmp_path: Path) -> None:
    (tmp_path / "family.py").write_text(
        "@register_model\n@synonym('plain')\n@synonym('other')\ndef cifar_plain(pretrained=False):\n    ...\n"
        "@register_model\ndef cifar_alone(pretrained=False):\n    ...\n"
    )
    assert catalogue.synonyms(tmp_path) == {"cifar_plain": ("plain", "other"), "cifar_alone": ()}
    assert [*catalogue.models(tmp_path)] == ["cifar_plain", "plain", "other", "cifar_alone"]


def test_families_do_not_import_each_other() -> None:
    files = set(catalogue.models().values())
    for path in files:
        assert not [other for other in files - {path} if f"flatmin.models.{other.stem} import" in path.read_text()]


def test_reading_imports_neither_torch_nor_timm() -> None:
    program = (
        "import sys; from flatmin import catalogue; assert catalogue.models() and catalogue.ascents();"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
