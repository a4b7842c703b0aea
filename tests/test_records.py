"""Sealed folders show any damage; the store and what it publishes are whole at every moment."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatmin.records import (
    CorruptRecordError,
    canonical,
    digest_of,
    file_digest,
    read_head,
    seal,
    verify,
    write_atomically,
)
from flatmin.store import Store, link, prune, publish

HEAD = "record.json"
CONTENT = {"kind": "train", "key": "k" * 64, "result": {"accuracy": 0.1 + 0.2, "epochs": [1, 2]}, "word": "größe"}


def sealed_folder(folder: Path, content: dict[str, Any] | None = None) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n")
    (folder / "inner" / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "timings.json").write_text('{"seconds": 1.5}')
    seal(folder, HEAD, CONTENT if content is None else content, aside=("timings.json",))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- seal and verify --------------------------------------------------------------------------------------------------


def test_what_was_sealed_is_read_back(tmp_path: Path) -> None:
    sealed = verify(sealed_folder(tmp_path / "run"), HEAD)
    assert {name: sealed[name] for name in CONTENT} == CONTENT
    assert set(sealed["files"]) == {"history.csv", "inner/weights.bin"}


def test_seal_returns_what_verify_reads(tmp_path: Path) -> None:
    content = {"pair": (1, 2), "by_class": {9: 1, 10: 2, 1: 3}}
    (tmp_path / "run").mkdir()
    assert seal(tmp_path / "run", HEAD, content) == verify(tmp_path / "run", HEAD)


@pytest.mark.parametrize(
    "number",
    [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2**53 + 1, 0.1, math.pi],
)
def test_numbers_keep_their_full_precision(tmp_path: Path, number: float) -> None:
    read = verify(sealed_folder(tmp_path / "run", {"number": number}), HEAD)["number"]
    assert repr(read) == repr(number)


def test_two_seals_of_one_content_are_the_same_bytes(tmp_path: Path) -> None:
    backwards = dict(reversed(CONTENT.items()))
    assert files(sealed_folder(tmp_path / "a")) == files(sealed_folder(tmp_path / "b", backwards))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal(tmp_path, HEAD, {"result": {"loss": bad}})
    assert list(tmp_path.iterdir()) == []


def test_equal_contents_are_equal_texts() -> None:
    assert canonical({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_a_head_cut_off_anywhere_is_corrupt(tmp_path: Path) -> None:
    head = sealed_folder(tmp_path / "run") / HEAD
    whole = head.read_bytes()
    for length in range(len(whole)):
        head.write_bytes(whole[:length])
        with pytest.raises(CorruptRecordError):
            read_head(head)
    head.write_bytes(whole)
    assert read_head(head)["key"] == CONTENT["key"]


def test_every_changed_character_of_a_head_is_seen(tmp_path: Path) -> None:
    head = sealed_folder(tmp_path / "run") / HEAD
    whole = head.read_bytes()
    for i, byte in enumerate(whole):
        other = ord("7") if byte != ord("7") else ord("8")
        head.write_bytes(whole[:i] + bytes([other]) + whole[i + 1 :])
        with pytest.raises(CorruptRecordError):
            read_head(head)


def _digit(folder: Path) -> None:
    text = (folder / HEAD).read_text()
    (folder / HEAD).write_text(text.replace("0.30000000000000004", "0.30000000000000005"))


def _huge(folder: Path) -> None:
    (folder / HEAD).write_text((folder / HEAD).read_text().replace("0.30000000000000004", "1e999"))


def _not_a_number(folder: Path) -> None:
    (folder / HEAD).write_text((folder / HEAD).read_text().replace("0.30000000000000004", "NaN"))


def _key_twice(folder: Path) -> None:
    text = (folder / HEAD).read_text()
    (folder / HEAD).write_text(text.replace('{\n "digest"', '{\n "key": "other",\n "digest"'))


def _other_json(folder: Path) -> None:
    (folder / HEAD).write_text("[1, 2]\n")


def _binary(folder: Path) -> None:
    (folder / HEAD).write_bytes(b"\xff\x00\xfe")


def _file_changed(folder: Path) -> None:
    (folder / "history.csv").write_text("epoch,loss\n1,0.6\n")


def _file_cut(folder: Path) -> None:
    (folder / "inner" / "weights.bin").write_bytes(bytes(range(255)))


def _file_missing(folder: Path) -> None:
    (folder / "history.csv").unlink()


def _file_a_folder(folder: Path) -> None:
    (folder / "history.csv").unlink()
    (folder / "history.csv").mkdir()


def _reseal(folder: Path, **changes: Any) -> None:
    """Write a head whose digest is right and whose content is another."""
    head = json.loads((folder / HEAD).read_text())
    del head["digest"]
    head |= changes
    head["digest"] = digest_of(head)
    (folder / HEAD).write_text(json.dumps(head, indent=1, sort_keys=True) + "\n")


def _other_version(folder: Path) -> None:
    _reseal(folder, version=2)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a digit of the head": (_digit, "does not match its digest"),
    "a number too large": (_huge, "not a complete record"),
    "a number that is none": (_not_a_number, "not a complete record"),
    "a key written twice": (_key_twice, "does not match its digest"),
    "another JSON": (_other_json, "not a complete record"),
    "no text": (_binary, "not a complete record"),
    "a file changed": (_file_changed, r"history\.csv: its content does not match the record"),
    "a file cut off": (_file_cut, r"weights\.bin: its content does not match the record"),
    "a file missing": (_file_missing, r"history\.csv: is missing"),
    "a folder for a file": (_file_a_folder, r"history\.csv: is missing"),
    "another version": (_other_version, "written in format 2, this flatmin reads 1"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_seen_and_named(tmp_path: Path, what: str) -> None:
    damage, message = DAMAGE[what]
    folder = sealed_folder(tmp_path / "run")
    before = files(folder)
    damage(folder)
    assert files(folder) != before
    with pytest.raises(CorruptRecordError, match=message):
        verify(folder, HEAD)


def test_the_message_says_what_to_do(tmp_path: Path) -> None:
    folder = sealed_folder(tmp_path / "run")
    _digit(folder)
    with pytest.raises(CorruptRecordError, match=r"dvc repro.*replaces it"):
        verify(folder, HEAD)


def test_no_head_is_not_damage_but_absence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(tmp_path, HEAD)


def test_files_set_aside_may_differ(tmp_path: Path) -> None:
    folder = sealed_folder(tmp_path / "run")
    (folder / "timings.json").write_text('{"seconds": 2.5}')
    assert verify(folder, HEAD)["key"] == CONTENT["key"]


def test_a_file_with_the_head_s_name_in_an_inner_folder_is_sealed_too(tmp_path: Path) -> None:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    (tmp_path / "run" / "inner" / HEAD).write_text("{}")
    assert set(seal(tmp_path / "run", HEAD, {})["files"]) == {f"inner/{HEAD}"}


# --- write_atomically -------------------------------------------------------------------------------------------------


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", ["old content", None])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str | None) -> None:
    path = tmp_path / "file.json"
    if old is not None:
        path.write_text(old)
    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new content")
    assert files(tmp_path) == before


def test_a_write_that_is_refused_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, 5)  # type: ignore[arg-type]
    assert files(tmp_path) == {"file.bin": b"old"}


def test_a_rename_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", _full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert files(tmp_path) == {"file.json": b"old"}


@pytest.mark.parametrize("content", ["größe\n", b"\x00\xff\r\n"])
def test_content_is_written_byte_for_byte(tmp_path: Path, content: str | bytes) -> None:
    write_atomically(tmp_path / "file", "longer content that was there before")
    write_atomically(tmp_path / "file", content)
    assert files(tmp_path) == {"file": content.encode() if isinstance(content, str) else content}


def test_a_reader_finds_the_old_content_or_the_new(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", ("a" * 100_000, "b" * 50_000)
    write_atomically(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for i in range(40):
            write_atomically(path, contents[i % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_text())
    writer.join()
    assert seen <= set(contents)


# --- store ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".flatmin")


def stored(store: Store, tmp_path: Path, key: str = "k1") -> Path:
    assert store.put("train", key, sealed_folder(tmp_path / f"made-{key}"))
    return store.entry("train", key)


def test_an_entry_is_read_as_it_was_sealed(tmp_path: Path, store: Store) -> None:
    stored(store, tmp_path)
    read = store.read("train", "k1", HEAD)
    assert read is not None
    assert read["result"] == CONTENT["result"]


def test_an_entry_keeps_the_files_of_the_folder(tmp_path: Path, store: Store) -> None:
    folder = sealed_folder(tmp_path / "made")
    inode, before = (folder / "history.csv").stat().st_ino, files(folder)
    store.put("train", "k1", folder)
    entry = store.entry("train", "k1")
    assert files(entry) == before
    assert (entry / "history.csv").stat().st_ino == inode
    assert not folder.exists()


def test_kinds_and_keys_are_apart(tmp_path: Path, store: Store) -> None:
    stored(store, tmp_path)
    assert store.read("evaluate", "k1", HEAD) is None
    assert store.read("train", "k2", HEAD) is None


def test_a_second_put_leaves_the_first_entry_and_its_own_folder_goes(tmp_path: Path, store: Store) -> None:
    entry = stored(store, tmp_path)
    before, inode = files(entry), entry.stat().st_ino
    second = sealed_folder(tmp_path / "second", {"key": "other"})
    assert store.put("train", "k1", second) is False
    assert (files(entry), entry.stat().st_ino) == (before, inode)
    assert not second.exists()


def test_of_many_puts_at_once_one_is_kept_whole(tmp_path: Path, store: Store) -> None:
    folders = [sealed_folder(tmp_path / f"made-{i}", {"key": str(i)}) for i in range(8)]
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda folder=folder: results.append(store.put("train", "k1", folder)))
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert verify(store.entry("train", "k1"), HEAD)["key"] in {str(i) for i in range(8)}
    assert names(store.root / "train") == ["k1"]


def test_a_put_that_cannot_be_made_is_an_error_and_loses_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sealed_folder(tmp_path / "made")
    before = files(folder)
    monkeypatch.setattr(Path, "rename", _full)
    with pytest.raises(OSError, match="No space left"):
        store.put("train", "k1", folder)
    assert files(folder) == before
    assert not store.entry("train", "k1").exists()


def _head_missing(folder: Path) -> None:
    (folder / HEAD).unlink()


@pytest.mark.parametrize("damage", [*(damage for damage, _ in DAMAGE.values()), _head_missing])
def test_a_damaged_entry_is_removed_when_it_is_read(
    tmp_path: Path, store: Store, damage: Callable[[Path], None]
) -> None:
    damage(stored(store, tmp_path))
    assert store.read("train", "k1", HEAD) is None
    assert names(store.root / "train") == []


@pytest.mark.parametrize("damage", [_digit, _head_missing])
def test_a_damaged_entry_does_not_stand_in_the_way_of_a_new_one(
    tmp_path: Path, store: Store, damage: Callable[[Path], None]
) -> None:
    damage(stored(store, tmp_path))
    store.read("train", "k1", HEAD)
    assert store.put("train", "k1", sealed_folder(tmp_path / "again"))
    assert store.read("train", "k1", HEAD) is not None


def test_removing_what_is_not_there_does_nothing(store: Store) -> None:
    store.remove("train", "k1")
    assert not store.root.exists()


# --- publish ----------------------------------------------------------------------------------------------------------


def outputs_of(tmp_path: Path) -> dict[str, Path]:
    return {
        HEAD: tmp_path / "runs" / "main" / "run-1" / HEAD,
        "history.csv": tmp_path / "runs" / "main" / "run-1" / "history.csv",
        "timings.json": tmp_path / "timings" / "main" / "run-1.json",
    }


def published(entry: Path, outputs: dict[str, Path]) -> None:
    publish(entry, outputs, {name: file_digest(entry / name) for name in outputs})


def no_hard_links(source: Any, target: Any, **_: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_published_files_are_links_to_the_entry_s(tmp_path: Path, store: Store) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    published(entry, outputs)
    for name, path in outputs.items():
        assert path.stat().st_ino == (entry / name).stat().st_ino
    assert set(files(tmp_path / "runs")) == {f"main/run-1/{HEAD}", "main/run-1/history.csv"}
    assert set(files(tmp_path / "timings")) == {"main/run-1.json"}


def test_a_file_system_without_hard_links_gets_copies(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    monkeypatch.setattr(os, "link", no_hard_links)
    published(entry, outputs)
    for name, path in outputs.items():
        assert path.read_bytes() == (entry / name).read_bytes()
        assert path.stat().st_ino != (entry / name).stat().st_ino


@pytest.mark.parametrize("linked", [True, False])
def test_a_right_file_is_left_alone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    if not linked:
        monkeypatch.setattr(os, "link", no_hard_links)
    published(entry, outputs)
    monkeypatch.undo()
    before = {path: path.stat() for path in outputs.values()}
    published(entry, outputs)
    for path, stat in before.items():
        after = path.stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_wrong_file_is_replaced_and_the_others_left_alone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, mode: int, hard_links: bool
) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    published(entry, outputs)
    wrong, right = outputs["history.csv"], outputs[HEAD]
    wrong.unlink()
    wrong.write_text("edited")
    wrong.chmod(mode)
    inode = right.stat().st_ino
    if not hard_links:
        monkeypatch.setattr(os, "link", no_hard_links)
    published(entry, outputs)
    assert wrong.read_bytes() == (entry / "history.csv").read_bytes()
    assert right.stat().st_ino == inode
    assert set(files(tmp_path / "runs")) == {f"main/run-1/{HEAD}", "main/run-1/history.csv"}


def test_replacing_a_published_file_leaves_other_links_to_its_old_content(tmp_path: Path, store: Store) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    target = outputs["history.csv"]
    target.parent.mkdir(parents=True)
    target.write_text("old")
    os.link(target, tmp_path / "cached")
    published(entry, outputs)
    assert (tmp_path / "cached").read_text() == "old"
    assert target.read_bytes() == (entry / "history.csv").read_bytes()


def test_a_missing_file_of_a_published_folder_comes_back(tmp_path: Path, store: Store) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    published(entry, outputs)
    outputs[HEAD].unlink()
    published(entry, outputs)
    assert outputs[HEAD].read_bytes() == (entry / HEAD).read_bytes()


def test_a_folder_of_outputs_appears_whole(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, outputs = stored(store, tmp_path), outputs_of(tmp_path)
    real, linked = os.link, []

    def failing_at_the_second(source: Any, target: Any) -> None:
        if linked:
            raise KeyboardInterrupt
        linked.append(target)
        real(source, target)

    monkeypatch.setattr(os, "link", failing_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        published(entry, outputs)
    assert not outputs[HEAD].parent.exists()
    monkeypatch.undo()
    published(entry, outputs)
    assert outputs[HEAD].exists()


def test_linking_a_file_to_itself_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "b")
    link(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["a", "b"]


# --- prune ------------------------------------------------------------------------------------------------------------


def tree(root: Path, *paths: str) -> None:
    for name in paths:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_exactly_what_is_not_kept_is_removed(tmp_path: Path) -> None:
    there = ["a/x", "a/y", "b/x", "b/inner/z", "top", ".hidden", "a/.x.1.part"]
    tree(tmp_path / "runs", *there)
    tree(tmp_path / "other", "a/x")
    kept = [tmp_path / "runs" / name for name in ("a/x", "top")]
    removed = prune([tmp_path / "runs"], kept)
    assert sorted(removed) == sorted(tmp_path / "runs" / name for name in there if name not in ("a/x", "top"))
    assert set(files(tmp_path / "runs")) == {"a/x", "top"}
    assert set(files(tmp_path / "other")) == {"a/x"}


def test_folders_left_empty_are_removed_and_the_pruned_one_stays(tmp_path: Path) -> None:
    tree(tmp_path, "runs/a/inner/x", "runs/b/x")
    (tmp_path / "runs" / "empty" / "too").mkdir(parents=True)
    prune([tmp_path / "runs"], [tmp_path / "runs/b/x"])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["b"]
    prune([tmp_path / "runs"], [])
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_kept_may_be_named_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "runs/a/x", "runs/a/y")
    monkeypatch.chdir(tmp_path)
    prune([Path("runs")], [Path("runs/a/x")])
    assert set(files(tmp_path)) == {"runs/a/x"}


def test_a_link_to_a_folder_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    tree(tmp_path, "elsewhere/x")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    prune([tmp_path / "runs"], [])
    assert list((tmp_path / "runs").iterdir()) == []
    assert set(files(tmp_path)) == {"elsewhere/x"}


def test_a_folder_that_is_not_there_has_nothing_to_prune(tmp_path: Path) -> None:
    assert prune([tmp_path / "runs"], []) == []


def test_a_read_only_file_is_removed_too(tmp_path: Path) -> None:
    tree(tmp_path, "runs/a/x")
    (tmp_path / "runs/a/x").chmod(0o444)
    prune([tmp_path / "runs"], [])
    assert not (tmp_path / "runs/a").exists()
