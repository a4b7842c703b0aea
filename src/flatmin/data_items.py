"""The items of the stages ``download`` and ``prepare``: which files, images and draws the study's tables need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flatmin.codehash import code_hash
from flatmin.data.manifest import draw_folder, images_folder, read_manifest
from flatmin.data.prepared import ARRAYS
from flatmin.data.source import Source
from flatmin.data.sources.registry import load
from flatmin.fanout import Item
from flatmin.records import digest_of
from flatmin.settings import keyed
from flatmin.study import Study
from flatmin.workspace import Workspace

IMAGE_FILES = ("manifest.json", "train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
DRAW_FILES = ("manifest.json", ARRAYS)


def needed_draws(study: Study) -> dict[str, set[int]]:
    """Return the seeds that each dataset of the study is drawn for: its tables' and their selections'."""
    needed: dict[str, set[int]] = {}
    for name in study.tables:
        table = study.table(name)
        seeds = {*table.seeds, *(study.selection(name).seeds if table.select else ())}
        for dataset in table.datasets:
            needed.setdefault(dataset, set()).update(seeds)
    return needed


def needed_sources(study: Study) -> list[Source]:
    """Return the sources behind the study's datasets."""
    return [load(name) for name in sorted({study.params.datasets[d].source for d in needed_draws(study)})]


def download_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item per source that has files to download."""
    return [
        Item(
            id=source.name,
            kind="download",
            key=_files_key(source),
            task={"source": source.name},
            outputs={
                name: workspace.raw / source.name / name
                for name in ("download.json", *(member.name for member in source.members))
            },
        )
        for source in needed_sources(study)
        if source.archives
    ]


def _files_key(source: Source) -> str:
    return digest_of({member.name: member.md5 for member in source.members})


def images_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item per source: its images and labels."""
    return [
        Item(
            id=source.name,
            kind="images",
            key=digest_of(
                {
                    "files": _files_key(source),
                    "code": code_hash([f"flatmin.data.sources.{source.name}", "flatmin.data.prepared"]),
                }
            ),
            task={"source": source.name, "raw": str((workspace.raw / source.name).absolute())},
            outputs=_inside(images_folder(workspace.prepared, source.name), IMAGE_FILES),
        )
        for source in needed_sources(study)
    ]


def draw_items(study: Study, workspace: Workspace) -> list[Item]:
    """Return an item per dataset and seed. The images must be there: a draw's key holds their content's hash.

    Raises:
        DataError: they are not.
    """
    return list(_draw_items(study, workspace))


def _draw_items(study: Study, workspace: Workspace) -> Iterator[Item]:
    code = code_hash(["flatmin.data.prepared", "flatmin.data.draws"])
    for dataset, seeds in needed_draws(study).items():
        spec = study.params.datasets[dataset]
        images = images_folder(workspace.prepared, spec.source)
        content = read_manifest(images, "images")["content_hash"]
        settings = {name: value for name, value in keyed(spec).items() if name != "source"}
        for seed in sorted(seeds):
            yield Item(
                id=f"{dataset}.s{seed}",
                kind="draw",
                key=digest_of({"spec": settings, "images": content, "seed": seed, "code": code}),
                task={"spec": spec.model_dump(mode="json"), "images": str(images.absolute()), "seed": seed},
                outputs=_inside(draw_folder(workspace.prepared, dataset, seed), DRAW_FILES),
            )


def _inside(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    return {name: folder / name for name in names}
