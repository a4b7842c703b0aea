"""Bringing a source's files into a folder, verified, from a mirror or from the network.

The folder ends up with the *extracted members* of the source's archives, each under its plain file name: the CIFAR
pickles, the uncompressed IDX files of Fashion-MNIST. Whatever way they came (an archive of whoever compressed it, a
folder that another program extracted) the bytes are the same, for every member's checksum is known.

Nothing unverified is ever put in place: work goes on in a subfolder, ``.part``, and a file moves up from there when it
is known to be right.
"""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from flatmin.data.downloading import Opener, Progress, TooSlowError, fetch
from flatmin.data.errors import DataError, writing
from flatmin.data.published import Archive, Published, algorithm
from flatmin.data.unpacking import RefusedError, unpack_file, write_member, wrong_members

MIRROR_VARIABLE = "FLATMIN_MIRROR"
_PART = ".part"


def mirrors_from_environment() -> tuple[Path, ...]:
    """Return the folders named in FLATMIN_MIRROR, separated as in PATH (by colons on POSIX systems)."""
    return tuple(Path(part).expanduser() for part in os.environ.get(MIRROR_VARIABLE, "").split(os.pathsep) if part)


def obtain(
    source: Published,
    destination: Path,
    *,
    mirrors: Sequence[Path] = (),
    opener: Opener = urlopen,
    progress: Progress | None = None,
) -> None:
    """Bring the verified files of ``source`` into ``destination``.

    Files that are already there and right are kept. Every other archive is looked for in each mirror, extracted or not,
    in the mirror itself or in the folders that torchvision and Debian use; then at each of its addresses in turn.

    Args:
        source: What to bring. A source without archives leaves an empty folder.
        destination: The source's own folder; made if need be.
        mirrors: Folders to look in first, usually `mirrors_from_environment`.
        opener: Opens a `urllib.request.Request`, with a ``timeout``.
        progress: Called with a line of text when something is worth telling.

    Raises:
        DataError: No place has the right files (each is listed with the reason), or the disk is full.
    """
    tell = progress or (lambda line: None)
    with writing(destination):
        destination.mkdir(parents=True, exist_ok=True)
    with _work_folder(destination) as work:
        for archive in source.archives:
            if wrong_members(archive.members, destination):
                _obtain_archive(source, archive, destination, work, mirrors, opener, tell)


def verify(source: Published, folder: Path) -> None:
    """Check that every file of ``source`` in ``folder`` has its checksum.

    Raises:
        DataError: A file is missing or wrong; all such files are named.
    """
    if wrong := wrong_members(source.members, folder):
        raise DataError(f"{folder}: {'; '.join(wrong)}", "Delete these files and run: dvc repro download")


@contextmanager
def _work_folder(destination: Path) -> Iterator[Path]:
    """Give an empty subfolder; what a killed process left in it is removed."""
    work = destination / _PART
    shutil.rmtree(work, ignore_errors=True)
    with writing(work):
        work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _obtain_archive(
    source: Published,
    archive: Archive,
    destination: Path,
    work: Path,
    mirrors: Sequence[Path],
    opener: Opener,
    tell: Progress,
) -> None:
    tried: list[str] = []
    for place, bring in _places(source, archive, work, mirrors, opener, tell):
        tell(f"{source.name}: {archive.name} from {place}")
        try:
            bring()
        except (RefusedError, OSError, http.client.HTTPException) as error:  # the last two: no network, no permission
            reason = str(error) or repr(error)
            tried.append(f"  {place}: {reason}")
            tell(f"{source.name}: {reason}")
            continue
        for member in archive.members:
            (work / member.name).replace(destination / member.name)
        return
    raise _nowhere(source, archive, tried, mirrors)


def _nowhere(source: Published, archive: Archive, tried: list[str], mirrors: Sequence[Path]) -> DataError:
    looked = (
        ", ".join(f"{mirror}" if mirror.is_dir() else f"{mirror} (no such folder)" for mirror in mirrors)
        or f"none is set ({MIRROR_VARIABLE})"
    )
    return DataError(
        f"{source.name}: no place has the right {archive.name}; mirrors: {looked}; tried:\n"
        + ("\n".join(tried) or "  nothing"),
        f"Put {archive.name} ({algorithm(archive.checksum)} {archive.checksum}"
        f"{f', {archive.size} bytes' if archive.size else ''}; for example downloaded elsewhere from {archive.urls[0]})"
        f"{_or_extracted(archive)} into a folder, set "
        f"{MIRROR_VARIABLE}=/that/folder, and run the same command again.",
    )


def _or_extracted(archive: Archive) -> str:
    return "" if archive.packing == "none" else ", or the files extracted from it,"


def _places(
    source: Published, archive: Archive, work: Path, mirrors: Sequence[Path], opener: Opener, tell: Progress
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield every place that may have the archive's members, and the function that brings them into ``work``."""
    for mirror in mirrors:
        for folder in (mirror, mirror / source.name, *(mirror / layout for layout in source.layouts)):
            for files in _extracted(archive, folder):
                yield str(files[0].parent), partial(_copy_members, archive, files, work)
            if (file := folder / archive.name).is_file():
                yield str(file), partial(unpack_file, archive, file, work)
    slow: list[str] = []
    for url in archive.urls:
        yield url, partial(_fetch_or_note, archive, url, work, opener, tell, slow)
    for url in slow:  # filled while the loop above ran
        yield url, partial(fetch, archive, url, work, opener, tell, patient=True)


def _fetch_or_note(archive: Archive, url: str, work: Path, opener: Opener, tell: Progress, slow: list[str]) -> None:
    """Fetch an archive from a host that is not slow; a slow one is noted."""
    try:
        fetch(archive, url, work, opener, tell, patient=False)
    except TooSlowError:
        slow.append(url)
        raise


def _extracted(archive: Archive, folder: Path) -> Iterator[tuple[Path, ...]]:
    """Yield the archive's members where all are in ``folder``, under their path in the archive or side by side."""
    candidates = {
        tuple(folder / member.path for member in archive.members),
        tuple(folder / member.name for member in archive.members),
    }
    yield from sorted(files for files in candidates if all(file.is_file() for file in files))


def _copy_members(archive: Archive, files: Sequence[Path], work: Path) -> None:
    for member, file in zip(archive.members, files, strict=True):
        with file.open("rb") as stream:
            write_member(stream, member, work)
