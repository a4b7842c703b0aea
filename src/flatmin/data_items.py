"""The items of the stages ``download`` and ``prepare``: which files, images, draws and test sets the study needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from flatmin.codehash import code_hash
from flatmin.data import human_labels
from flatmin.data.corruptions import registry as corruptions
from flatmin.data.manifest import draw_folder, images_folder, read_manifest, test_set_folder
from flatmin.data.own.source import fingerprint_of
from flatmin.data.prepared import ARRAYS
from flatmin.data.prepared_tests import IMAGES, LABELS, PROBABILITIES
from flatmin.data.published import Published
from flatmin.data.sources.registry import load as load_source
from flatmin.data.test_set import Corruptions, HumanJudgements, TestSet
from flatmin.data.test_sets.registry import OWN
from flatmin.data.test_sets.registry import load as load_test_set
from flatmin.fanout import Item
from flatmin.records import digest_of
from flatmin.settings import AsymmetricNoise, CorruptionSpec, DatasetSpec, HumanNoise, OwnImages, keyed
from flatmin.study import Study
from flatmin.workspace import Workspace

MANIFEST = "manifest.json"
IMAGE_FILES = (MANIFEST, "train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
DRAW_FILES = (MANIFEST, ARRAYS)


def needed_draws(study: Study) -> dict[str, set[int]]:
    """Return the seeds that each dataset of the study is drawn for: its tables' and their selections'."""
    needed: dict[str, set[int]] = {}
    for name in study.tables:
        table = study.table(name)
        seeds = {*table.seeds, *(study.selection(name).seeds if table.select else ())}
        for dataset in table.datasets:
            needed.setdefault(dataset, set()).update(seeds)
    return needed


def needed_datasets(study: Study) -> list[DatasetSpec]:
    """Return the datasets of the study's tables."""
    return [study.params.datasets[name] for name in needed_draws(study)]


def needed_sources(study: Study) -> dict[str, str | OwnImages]:
    """Return what is behind the study's datasets by the names of the sources: the same name, or images of one's own."""
    by_name = {spec.source_name: spec.source for spec in needed_datasets(study)}
    return dict(sorted(by_name.items()))


def needed_test_sets(study: Study) -> list[tuple[TestSet, str]]:
    """Return the further test sets that the study asks for, each with a source whose runs are measured on it."""
    wanted = [load_test_set(name) for name in study.params.evaluation.test_sets if name != OWN]
    return [(test_set, source) for test_set in wanted for source in needed_sources(study) if test_set.fits(source)]


def wanted_corruptions(spec: CorruptionSpec) -> tuple[str, ...]:
    """Return the names of the corruptions that a study asks for, in the benchmark's order."""
    if spec.names == "main":
        return corruptions.MAIN
    every = (*corruptions.MAIN, *(name for name in corruptions.names() if name not in corruptions.MAIN))
    return every if spec.names == "all" else tuple(name for name in every if name in spec.names)


# --- download ---------------------------------------------------------------------------------------------------------


def needed_files(study: Study) -> list[Published]:
    """Return all that the study has to download: of a suite of corruptions, the corruptions that it asks for."""
    sources = [load_source(source) for source in needed_sources(study).values() if isinstance(source, str)]
    people = {
        spec.source_name: human_labels.PUBLISHED[spec.source_name]
        for spec in needed_datasets(study)
        if isinstance(spec.noise, HumanNoise)
    }
    tests = {test_set.name: _wanted_part(test_set, study) for test_set, _ in needed_test_sets(study)}
    return [files for files in (*sources, *people.values(), *tests.values()) if files.archives]


def _wanted_part(test_set: TestSet, study: Study) -> TestSet:
    if not isinstance(test_set, Corruptions):
        return test_set
    wanted = ("labels", *wanted_corruptions(study.params.evaluation.corruptions))
    return test_set.only(f"{name}.npy" for name in wanted)


def download_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item for everything that has files to download."""
    return [
        Item(
            id=files.name,
            kind="download",
            key=_files_key(files),
            task={
                "name": files.name,
                "members": [member.name for member in files.members],
                "raw": str((workspace.raw / files.name).absolute()),
            },
            outputs=_inside(workspace.raw / files.name, ("download.json", *(member.name for member in files.members))),
        )
        for files in needed_files(study)
    ]


def _files_key(files: Published) -> str:
    return digest_of({member.name: member.checksum for member in files.members})


# --- images -----------------------------------------------------------------------------------------------------------


def images_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item per source: its images and labels.

    Raises:
        DataError: images of the user's own cannot be read.
    """
    return [images_item(name, source, workspace) for name, source in needed_sources(study).items()]


def images_item(name: str, source: str | OwnImages, workspace: Workspace) -> Item:
    """Return the item of one source's images.

    Raises:
        DataError: images of the user's own cannot be read.
    """
    if isinstance(source, str):
        files, module = _files_key(load_source(source)), f"flatmin.data.sources.{source}"
        task: dict[str, object] = {"source": source, "raw": str((workspace.raw / source).absolute())}
    else:  # whose name has a digest of the settings in it
        files, module = fingerprint_of(source, workspace.root), "flatmin.data.own.source"
        task = {"own": source.model_dump(mode="json"), "root": str(workspace.root.absolute())}
    return Item(
        id=name,
        kind="images",
        key=digest_of({"name": name, "files": files, "code": code_hash([module, "flatmin.data.prepared"])}),
        task=task,
        outputs=_inside(images_folder(workspace.prepared, name), IMAGE_FILES),
    )


# --- draws ------------------------------------------------------------------------------------------------------------


def draw_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item per dataset and seed. The images must be there: a draw's key holds their content's hash.

    Raises:
        DataError: they are not.
    """
    return list(_draw_items(study, workspace))


def _draw_items(study: Study, workspace: Workspace, source: str | None = None) -> Iterator[Item]:
    code = code_hash(["flatmin.data.prepared", "flatmin.data.draws"])
    for dataset, seeds in needed_draws(study).items():
        spec = study.params.datasets[dataset]
        if source is not None and spec.source_name != source:
            continue
        images = images_folder(workspace.prepared, spec.source_name)
        manifest = read_manifest(images, "images")
        known = {
            "spec": {name: value for name, value in keyed(spec).items() if name != "source"},
            "images": manifest["content_hash"],
            "pairs": manifest["usual_pairs"] if isinstance(spec.noise, AsymmetricNoise) else None,
            "code": code,
        }
        for seed in sorted(seeds):
            yield Item(
                id=f"{dataset}.s{seed}",
                kind="draw",
                key=digest_of({**known, "seed": seed}),
                task={
                    "spec": spec.model_dump(mode="json"),
                    "images": str(images.absolute()),
                    "seed": seed,
                    "annotations": _annotations(spec, workspace),
                },
                outputs=_inside(draw_folder(workspace.prepared, dataset, seed), DRAW_FILES),
            )


def _annotations(spec: DatasetSpec, workspace: Workspace) -> str | None:
    """Return the file of the labels that people gave, where a dataset has these."""
    if not isinstance(spec.noise, HumanNoise):
        return None
    files = human_labels.PUBLISHED[spec.source_name]
    return str((workspace.raw / files.name / files.members[0].name).absolute())


# --- test sets --------------------------------------------------------------------------------------------------------


def test_set_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item per further test set, and one per corruption of a suite. Images of the sources must be there.

    Raises:
        DataError: they are not.
    """
    return [
        item
        for test_set, source in needed_test_sets(study)
        for item in _test_set_items(test_set, source, study, workspace)
    ]


def _test_set_items(test_set: TestSet, source: str, study: Study, workspace: Workspace) -> Iterator[Item]:
    images = images_folder(workspace.prepared, source)
    spec = study.params.evaluation.corruptions
    content = read_manifest(images, "images")["content_hash"]
    task = {
        "test_set": test_set.name,
        "raw": str((workspace.raw / test_set.name).absolute()),
        "images": str(images.absolute()),
        "corruptions": spec.model_dump(mode="json"),
    }
    for part in parts_of(test_set, spec):
        code = [f"flatmin.data.test_sets.{test_set.name}", "flatmin.data.prepared_tests"]
        generated = isinstance(test_set, Corruptions) and test_set.generated
        if generated:
            code.append(f"flatmin.data.corruptions.{part}")
        settings = spec.model_dump(mode="json", exclude={"names"}) if generated else None
        yield Item(
            id=".".join(filter(None, (test_set.name, "" if test_set.source else source, part))),
            kind="corruption" if generated else "test_set",
            key=digest_of(
                {
                    "files": _files_key(test_set.only(["labels.npy", f"{part}.npy"]) if part else test_set),
                    "images": content,
                    "part": part,
                    "settings": settings,
                    "code": code_hash(code),
                }
            ),
            task={**task, "part": part},
            outputs=_inside(folder_of(test_set, source, part, workspace), (MANIFEST, *_files_of(test_set))),
        )


def folder_of(test_set: TestSet, source: str, part: str, workspace: Workspace) -> Path:
    """Return where a part of a test set is prepared; of one that is made from a source's images, apart for each."""
    return test_set_folder(workspace.prepared, test_set.name, "" if test_set.source else source) / part


def items_made_from(source: str, study: Study, workspace: Workspace) -> list[Item]:
    """Return the items of the draws and test sets that are made from one source's images, which must be there.

    Raises:
        DataError: they are not.
    """
    sets = [test_set for test_set, of in needed_test_sets(study) if of == source]
    tests = (item for test_set in sets for item in _test_set_items(test_set, source, study, workspace))
    return [*_draw_items(study, workspace, source), *tests]


def parts_of(test_set: TestSet, spec: CorruptionSpec) -> tuple[str, ...]:
    """Return the folders that a test set is prepared in: one per corruption of a suite, else the one without a name."""
    if not isinstance(test_set, Corruptions):
        return ("",)
    published = {member.name for member in test_set.members}
    return tuple(name for name in wanted_corruptions(spec) if test_set.generated or f"{name}.npy" in published)


def _files_of(test_set: TestSet) -> tuple[str, ...]:
    if isinstance(test_set, HumanJudgements):
        return (PROBABILITIES,)
    return (IMAGES,) if isinstance(test_set, Corruptions) else (IMAGES, LABELS)


def _inside(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    return {name: folder / name for name in names}
