from __future__ import annotations

import errno
import gzip
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_sources import MEMBERS, gzipped, md5, tar_gz, tar_source

from flatmin.data import downloading
from flatmin.data.archives import mirrors_from_environment, obtain, verify
from flatmin.data.errors import DataError
from flatmin.data.published import Archive, Member, file_checksum, plain_file
from flatmin.data.source import Source

GOOD = tar_gz([*MEMBERS.items(), ("toy/readme.html", b"left inside")])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPECTED = {"images": MEMBERS["toy/images"], "labels": MEMBERS["toy/labels"]}


class Served(BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012  # replaced by the fixture
    promise: int | None = None

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        body = content or b"<html>gone</html>"
        self.send_header("Content-Length", str(self.promise or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Served]]]:
    handler = type("Handler", (Served,), {"files": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", handler
        httpd.shutdown()
        thread.join()


# --- mirrors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["toy/images", "images", "toy/toy/images", "other/raw/images"],
    ids=["folder of the archive", "itself that folder", "named after the source", "another program's layout"],
)
def test_an_extracted_folder_in_a_mirror_serves(place: str, tmp_path: Path, no_network) -> None:
    folder = (tmp_path / "mirror" / place).parent
    folder.mkdir(parents=True)
    for name, content in EXPECTED.items():
        (folder / name).write_bytes(content)
    obtain(tar_source(GOOD), tmp_path / "raw", mirrors=[tmp_path / "mirror"], opener=no_network)
    assert contents(tmp_path / "raw") == EXPECTED
    assert no_network.asked == []


@pytest.mark.parametrize("place", ["toy.tar.gz", "toy/toy.tar.gz", "other/raw/toy.tar.gz"])
def test_an_archive_in_a_mirror_gives_the_same_files(place: str, tmp_path: Path, no_network) -> None:
    file = tmp_path / "mirror" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(GOOD)
    obtain(tar_source(GOOD), tmp_path / "raw", mirrors=[tmp_path / "empty", tmp_path / "mirror"], opener=no_network)
    assert contents(tmp_path / "raw") == EXPECTED


def test_a_wrong_mirror_is_passed_over_for_the_next(tmp_path: Path, no_network) -> None:
    for name, content in {"a": GOOD[:-1] + b"?", "b": GOOD}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "toy.tar.gz").write_bytes(content)
    lines: list[str] = []
    obtain(
        tar_source(GOOD),
        tmp_path / "raw",
        mirrors=[tmp_path / "a", tmp_path / "b"],
        opener=no_network,
        progress=lines.append,
    )
    assert contents(tmp_path / "raw") == EXPECTED
    assert any("wrong checksum" in line for line in lines)


def test_a_wrong_file_in_an_extracted_folder_is_refused_by_name_with_both_sums(tmp_path: Path, no_network) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "images").write_bytes(EXPECTED["images"])
    (mirror / "labels").write_bytes(EXPECTED["labels"].replace(b"l", b"L"))
    with pytest.raises(DataError) as caught:
        obtain(tar_source(GOOD), tmp_path / "raw", mirrors=[mirror], opener=no_network)
    wrong = md5(EXPECTED["labels"].replace(b"l", b"L"))
    assert f"labels has md5 {wrong}, not {md5(EXPECTED['labels'])}" in caught.value.problem
    assert contents(tmp_path / "raw") == {}


def test_files_that_are_there_and_right_are_not_fetched_again(tmp_path: Path, no_network) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, content in EXPECTED.items():
        (raw / name).write_bytes(content)
    obtain(tar_source(GOOD), raw, opener=no_network)
    (raw / "images").write_bytes(b"broken")
    with pytest.raises(DataError):
        obtain(tar_source(GOOD), raw, opener=no_network)
    assert len(no_network.asked) == 1


def test_gzipped_members_come_out_plain_whoever_compressed_them(tmp_path: Path, no_network) -> None:
    content = b"pixels" * 100
    official, debian = gzip.compress(content, 9, mtime=1), gzipped(content)
    archive = Archive(
        "a.gz", ("http://unused.invalid/a.gz",), md5(official), len(official), (Member("a", md5(content)),)
    )
    for name, packed in {"official": official, "debian": debian}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.gz").write_bytes(packed)

    def take(source_archive: Archive, mirror: str, raw: str) -> dict[str, bytes]:
        source = replace(tar_source(GOOD), archives=(source_archive,))
        obtain(source, tmp_path / raw, mirrors=[tmp_path / mirror], opener=no_network)
        return contents(tmp_path / raw)

    known = replace(archive, repackaged=(md5(debian),))
    assert take(archive, "official", "raw1") == take(known, "debian", "raw2") == {"a": content}
    with pytest.raises(DataError, match="wrong checksum"):
        take(archive, "debian", "raw3")


def test_without_mirror_and_network_one_message_says_all(tmp_path: Path, no_network) -> None:
    urls = ("http://one.invalid/toy.tar.gz", "http://two.invalid/toy.tar.gz")
    with pytest.raises(DataError) as caught:
        obtain(tar_source(GOOD, urls=urls), tmp_path / "raw", mirrors=[tmp_path / "gone"], opener=no_network)
    assert no_network.asked == list(urls)
    for part in (*urls, "no route to host", f"{tmp_path / 'gone'} (no such folder)"):
        assert part in caught.value.problem
    for part in ("FLATMIN_MIRROR=", "toy.tar.gz", md5(GOOD), str(len(GOOD))):
        assert part in caught.value.fix


def test_mirrors_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATMIN_MIRROR", "/a::~/b")
    assert mirrors_from_environment() == (Path("/a"), Path.home() / "b")
    monkeypatch.delenv("FLATMIN_MIRROR")
    assert mirrors_from_environment() == ()


# --- hostile and broken archives --------------------------------------------------------------------------------------


def link(kind: bytes) -> tarfile.TarInfo:
    header = tarfile.TarInfo("toy/images")
    header.type, header.linkname = kind, "/etc/passwd"
    return header


HOSTILE = {
    "path escape": ([("../escaped", b"x"), *MEMBERS.items()], "points out of its folder"),
    "absolute path": ([("/tmp/escaped", b"x"), *MEMBERS.items()], "points out of its folder"),
    "symbolic link": ([(link(tarfile.SYMTYPE), b""), *MEMBERS.items()], "neither a file nor a folder"),
    "hard link": ([(link(tarfile.LNKTYPE), b""), *MEMBERS.items()], "neither a file nor a folder"),
    "device": ([(link(tarfile.CHRTYPE), b""), *MEMBERS.items()], "neither a file nor a folder"),
    "oversized member": ([("toy/images", MEMBERS["toy/images"] + b"x")], "more than the expected 768 bytes"),
    "oversized stranger": ([("toy/other", bytes(2**21)), *MEMBERS.items()], "extracts to more than the expected"),
    "member missing": ([("toy/images", MEMBERS["toy/images"])], "lacks toy/labels"),
    "member changed": ([("toy/images", b"x"), ("toy/labels", MEMBERS["toy/labels"])], "wrong checksum: images"),
    "member is a folder": ([(link(tarfile.DIRTYPE), b""), ("toy/labels", b"")], "not a regular file"),
}


@pytest.mark.parametrize(("entries", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_although_its_checksum_is_right(entries, reason, tmp_path, no_network) -> None:
    packed = tar_gz(entries)
    mirror = tmp_path / "deep" / "mirror"
    mirror.mkdir(parents=True)
    (mirror / "toy.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match=reason):
        obtain(tar_source(packed), tmp_path / "deep" / "raw", mirrors=[mirror], opener=no_network)
    assert contents(tmp_path) == {"deep/mirror/toy.tar.gz": packed}
    assert not (tmp_path / "deep" / "raw" / ".part").exists()


def test_an_oversized_gzip_member_is_refused(tmp_path: Path, no_network) -> None:
    packed = gzipped(bytes(10**6))
    member = Member("a", md5(bytes(10**6)), limit=1000)
    archive = Archive("a.gz", ("http://unused.invalid/a.gz",), md5(packed), len(packed), (member,))
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(DataError, match="more than the expected 1000 bytes"):
        obtain(replace(tar_source(GOOD), archives=(archive,)), tmp_path / "raw", mirrors=[tmp_path], opener=no_network)


def test_an_archive_that_ends_early_is_damaged(tmp_path: Path, no_network) -> None:
    packed = GOOD[: len(GOOD) // 2]
    (tmp_path / "toy.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match="is damaged"):
        obtain(tar_source(packed), tmp_path / "raw", mirrors=[tmp_path], opener=no_network)


# --- archives that stream by ------------------------------------------------------------------------------------------


def tar(entries: list[tuple[tarfile.TarInfo | str, bytes]]) -> bytes:
    return gzip.decompress(tar_gz(entries))


STREAMED = tar([*MEMBERS.items(), ("toy/other", b"left inside" * 1000)])


def streamed_source(packed: bytes, *, url: str = "http://unused.invalid/toy.tar") -> Source:
    archive = replace(tar_source(GOOD).archives[0], name="toy.tar", urls=(url,), checksum=md5(packed), size=len(packed))
    return replace(tar_source(GOOD), archives=(archive,))


def test_a_tar_streams_by_and_only_the_members_asked_for_are_kept(tmp_path: Path, server) -> None:
    base, handler = server
    handler.files = {"/toy": STREAMED}
    files = streamed_source(STREAMED, url=f"{base}/toy").only(["labels"])
    obtain(files, tmp_path / "raw")
    assert contents(tmp_path / "raw") == {"labels": MEMBERS["toy/labels"]}


def test_the_tar_itself_never_lies_on_the_disk(tmp_path: Path, server, monkeypatch: pytest.MonkeyPatch) -> None:
    base, handler = server
    handler.files = {"/toy": STREAMED}
    written: list[str] = []
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *a, **k: (written.append(self.name), opened(self, mode, *a, **k))[1]
    )
    obtain(streamed_source(STREAMED, url=f"{base}/toy"), tmp_path / "raw")
    assert {*written} == {"images", "labels"}


def test_a_tar_in_a_mirror_gives_the_same_files(tmp_path: Path, no_network) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "toy.tar").write_bytes(STREAMED)
    obtain(streamed_source(STREAMED), tmp_path / "raw", mirrors=[tmp_path / "mirror"], opener=no_network)
    assert contents(tmp_path / "raw") == EXPECTED


BAD_STREAMS = {
    "web page": (b"<!DOCTYPE html><html>try later</html>" + bytes(2000), "looks like an HTML page"),
    "cut short": (STREAMED[: len(STREAMED) // 2], "cut short"),
    "cut after the members": (STREAMED[:3072], "cut short"),
    "longer": (STREAMED + bytes(10240), "another file"),
    "another byte outside of the members": (STREAMED[:-11000] + b"?" + STREAMED[-10999:], "wrong checksum: toy.tar"),
    "no tar": (bytes(range(256)) * (len(STREAMED) // 256), "is damaged"),
}


@pytest.mark.parametrize(("body", "reason"), BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_of_a_bad_stream_nothing_is_kept(body: bytes, reason: str, tmp_path: Path, server) -> None:
    base, handler = server
    handler.files = {"/toy": body}
    with pytest.raises(DataError, match=reason):
        obtain(streamed_source(STREAMED, url=f"{base}/toy"), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_hostile_entry_of_a_stream_is_refused(tmp_path: Path, server) -> None:
    base, handler = server
    hostile = tar([("../escaped", b"x"), *MEMBERS.items()])
    handler.files = {"/toy": hostile}
    with pytest.raises(DataError, match="points out of its folder"):
        obtain(streamed_source(hostile, url=f"{base}/toy"), tmp_path / "deep" / "raw")
    assert contents(tmp_path) == {}


def test_a_member_that_is_not_the_published_one_is_refused_whatever_the_archive_s_checksum(tmp_path: Path, server):
    base, handler = server
    wrong = tar([("toy/images", b"x"), ("toy/labels", MEMBERS["toy/labels"])])
    handler.files = {"/toy": wrong}
    with pytest.raises(DataError, match="wrong checksum: images"):
        obtain(streamed_source(wrong, url=f"{base}/toy"), tmp_path / "raw")


# --- files that are packed in nothing ---------------------------------------------------------------------------------

PLAIN = b"an array" * 100


def plain_source(checksum: str, url: str, size: int | None = len(PLAIN), **limit: int) -> Source:
    return replace(tar_source(GOOD), archives=(plain_file("array.npy", (url,), checksum, size, **limit),))


@pytest.mark.parametrize(
    "checksum",
    [
        hashlib.md5(PLAIN).hexdigest(),
        hashlib.sha256(PLAIN).hexdigest(),
        hashlib.sha1(b"blob %d\0" % len(PLAIN) + PLAIN).hexdigest(),
    ],
    ids=["md5", "sha256", "git"],
)
def test_a_plain_file_is_verified_by_any_kind_of_checksum(checksum: str, tmp_path: Path, server) -> None:
    base, handler = server
    handler.files = {"/right": PLAIN, "/wrong": PLAIN[:-1] + b"?"}
    obtain(plain_source(checksum, f"{base}/right"), tmp_path / "raw")
    assert contents(tmp_path / "raw") == {"array.npy": PLAIN}
    with pytest.raises(DataError, match=f"not {checksum}"):
        obtain(plain_source(checksum, f"{base}/wrong"), tmp_path / "other")
    assert contents(tmp_path / "other") == {}


def test_a_file_of_unknown_size_is_bounded_by_its_limit(tmp_path: Path, server) -> None:
    base, handler = server
    handler.files = {"/toy": PLAIN}
    obtain(plain_source(md5(PLAIN), f"{base}/toy", None, limit=1000), tmp_path / "raw")
    assert contents(tmp_path / "raw") == {"array.npy": PLAIN}
    with pytest.raises(DataError, match="another file"):
        obtain(plain_source(md5(PLAIN), f"{base}/toy", None, limit=799), tmp_path / "other")


# --- downloads --------------------------------------------------------------------------------------------------------


def test_the_second_address_serves_when_the_first_has_nothing(tmp_path: Path, server) -> None:
    base, handler = server
    handler.files = {"/right": GOOD}
    lines: list[str] = []
    obtain(tar_source(GOOD, urls=(f"{base}/gone", f"{base}/right")), tmp_path / "raw", progress=lines.append)
    assert contents(tmp_path / "raw") == EXPECTED
    assert any("404" in line for line in lines)


BAD_DOWNLOADS = {
    "web page": (b"\n<!DOCTYPE html><html>try later</html>", None, "looks like an HTML page"),
    "cut short": (GOOD[:-10], None, "cut short"),
    "connection lost": (GOOD[:-10], len(GOOD), "cut short"),
    "longer": (GOOD + b"x", None, "another file"),
    "same size, other bytes": (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), None, f"not {md5(GOOD)}"),
}


@pytest.mark.parametrize(("body", "promise", "reason"), BAD_DOWNLOADS.values(), ids=BAD_DOWNLOADS)
def test_a_bad_download_is_refused_and_leaves_nothing(body, promise, reason, tmp_path: Path, server) -> None:
    base, handler = server
    handler.files, handler.promise = {"/toy": body}, promise
    with pytest.raises(DataError, match=reason):
        obtain(tar_source(GOOD, urls=(f"{base}/toy",)), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


class Drip(io.BytesIO):
    """A host that gives 64 bytes at a time; every look at the clock is ten seconds later."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(64)


def test_a_slow_host_is_left_for_the_next_and_endured_when_it_is_the_only_one(tmp_path, monkeypatch) -> None:
    now = iter(range(0, 10**6, 10))
    monkeypatch.setattr(downloading.time, "monotonic", lambda: next(now))
    asked: list[str] = []

    def opener(request, timeout: float) -> io.BytesIO:
        asked.append(request.full_url)
        return Drip(GOOD) if "slow" in request.full_url else io.BytesIO(GOOD)

    slow, fast = "http://slow.invalid/toy", "http://fast.invalid/toy"
    obtain(tar_source(GOOD, urls=(slow, fast)), tmp_path / "a", opener=opener)
    assert asked == [slow, fast]
    obtain(tar_source(GOOD, urls=(slow,)), tmp_path / "b", opener=opener)
    assert asked == [slow, fast, slow, slow]
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == EXPECTED


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"disk full while writing .*toy\.tar\.gz\.part"):
        obtain(tar_source(GOOD), tmp_path / "raw", opener=lambda request, timeout: FullDisk())
    assert list((tmp_path / "raw").iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path, server) -> None:
    base, handler = server
    handler.files = {"/toy": GOOD}
    (tmp_path / "raw" / ".part").mkdir(parents=True)
    (tmp_path / "raw" / ".part" / "toy.tar.gz.part").write_bytes(b"half")
    obtain(tar_source(GOOD, urls=(f"{base}/toy",)), tmp_path / "raw")
    assert contents(tmp_path / "raw") == EXPECTED


def test_verify_names_every_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"?")
    with pytest.raises(DataError) as caught:
        verify(tar_source(GOOD), tmp_path)
    assert f"images has md5 {md5(b'?')}, not" in caught.value.problem
    assert "labels is missing" in caught.value.problem
    for name, content in EXPECTED.items():
        (tmp_path / name).write_bytes(content)
    verify(tar_source(GOOD), tmp_path)


def test_a_source_without_archives_leaves_an_empty_folder(tmp_path: Path, toy_source: Source) -> None:
    obtain(toy_source, tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


# --- the real files ---------------------------------------------------------------------------------------------------


@pytest.mark.mirror
def test_cifar10_is_the_same_from_an_archive_its_folder_and_a_torchvision_root(
    cifar10_folder: Path, tmp_path: Path, no_network
) -> None:
    from flatmin.data.sources.cifar10 import SOURCE

    # The official archive is not at hand, so one is packed from the official members, with its own checksum
    packed = tmp_path / "packed" / "cifar-10-python.tar.gz"
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz", compresslevel=0) as tar:
        tar.add(cifar10_folder / "cifar-10-batches-py", "cifar-10-batches-py")
    archive = replace(SOURCE.archives[0], checksum=file_checksum(packed, "0" * 32), size=packed.stat().st_size)
    torchvision_root = tmp_path / "torchvision" / "cifar10"
    torchvision_root.mkdir(parents=True)
    (torchvision_root / "cifar-10-batches-py").symlink_to(cifar10_folder / "cifar-10-batches-py")

    mirrors = {
        "archive": packed.parent,
        "folder": cifar10_folder / "cifar-10-batches-py",
        "root": torchvision_root,
        "parent": torchvision_root.parent,
    }
    found = {}
    for name, mirror in mirrors.items():
        raw = tmp_path / "raw"
        source = replace(SOURCE, archives=(archive,)) if name == "archive" else SOURCE
        obtain(source, raw, mirrors=[mirror], opener=no_network)
        verify(SOURCE, raw)
        found[name] = sorted((path.name, path.stat().st_size) for path in raw.iterdir())
        shutil.rmtree(raw)
    assert all(files == found["archive"] for files in found.values())
    assert len(found["archive"]) == 7
