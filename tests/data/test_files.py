"""Published files: checksums as other programs compute them, what a part of them is, and what there is of them."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flatmin.data.corruptions import registry as corruptions
from flatmin.data.errors import DataError
from flatmin.data.files import everything, published
from flatmin.data.human_labels import PUBLISHED
from flatmin.data.published import Archive, Member, Published, algorithm, file_checksum, hasher, plain_file
from flatmin.data.sources import registry as sources
from flatmin.data.test_set import Corruptions, HumanJudgements, NewImages, TestSet
from flatmin.data.test_sets import registry as test_sets

MD5, GIT, SHA256 = "0" * 32, "0" * 40, "0" * 64
LENGTHS = {32: "md5", 40: "git", 64: "sha256"}
ALL = {files.name: files for files in everything()}
SETS = {name: found for name, found in ALL.items() if isinstance(found, TestSet)}
ARCHIVES = [(name, archive) for name, files in ALL.items() for archive in files.archives]


# --- checksums --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "kind"), LENGTHS.items())
def test_the_length_of_a_checksum_tells_its_kind(length: int, kind: str) -> None:
    assert algorithm("a" * length) == kind


@pytest.mark.parametrize(
    ("like", "content", "expected"),
    [
        # as `git hash-object`, `md5sum` and `sha256sum` print them
        (GIT, b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (GIT, b"test content\n", "d670460b4b4aece5915caf5c68d12f560a9fe3e4"),
        (MD5, b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (SHA256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_checksums_are_those_that_other_programs_print(
    tmp_path: Path, like: str, content: bytes, expected: str
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert file_checksum(tmp_path / "file", like) == expected
    digest = hasher(like, len(content))
    digest.update(content)
    assert digest.hexdigest() == expected


@pytest.mark.parametrize("like", [MD5, GIT, SHA256], ids=LENGTHS.values())
def test_a_file_of_several_pieces_has_the_checksum_of_its_whole_content(tmp_path: Path, like: str) -> None:
    content = bytes(range(256)) * 9000  # more than two mebibytes
    (tmp_path / "file").write_bytes(content)
    whole = {
        MD5: hashlib.md5(content),
        GIT: hashlib.sha1(f"blob {len(content)}\0".encode() + content),
        SHA256: hashlib.sha256(content),
    }
    assert file_checksum(tmp_path / "file", like) == whole[like].hexdigest()


# --- archives and parts of them ---------------------------------------------------------------------------------------


def two_archives() -> Published:
    members = tuple(Member(f"inner/{name}.npy", MD5, limit=10) for name in ("a", "b", "c"))
    return Published(
        name="two",
        licence="none",
        citation="none",
        archives=(
            Archive("big.tar", ("u",), MD5, 1000, members),
            Archive("other.gz", ("u",), MD5, None, (Member("d.npy", MD5, 7),)),
        ),
    )


def test_only_keeps_the_named_members_and_no_empty_archive() -> None:
    part = two_archives().only(["c.npy", "a.npy"])
    assert [archive.name for archive in part.archives] == ["big.tar"]
    assert [member.name for member in part.members] == ["a.npy", "c.npy"]  # in the archive's order, not as asked
    assert (part.archives[0].checksum, part.archives[0].size) == (MD5, 1000)
    assert (part.name, part.licence) == ("two", "none")


def test_only_takes_an_iterator_and_keeps_the_kind_of_thing() -> None:
    part = ALL["cifar10_c"].only(iter(["fog.npy"]))
    assert isinstance(part, Corruptions)
    assert [member.path for member in part.members] == ["CIFAR-10-C/fog.npy"]
    assert part.download_bytes == ALL["cifar10_c"].download_bytes, "a part of a tar takes the whole of it to download"


def test_only_of_everything_is_everything_and_of_nothing_is_nothing() -> None:
    whole = two_archives()
    assert whole.only(member.name for member in whole.members) == whole
    assert whole.only(["inner/a.npy"]).archives == (), "names are file names, not paths in the archive"


@pytest.mark.parametrize(
    ("name", "packing"),
    [("a.tar.gz", "tar.gz"), ("a.tgz", "tar.gz"), ("a.tar", "tar"), ("a-ubyte.gz", "gz"), ("a.npy", "none")],
)
def test_the_ending_of_a_name_tells_the_packing(name: str, packing: str) -> None:
    assert Archive(name, (), MD5, None, ()).packing == packing


def test_the_most_bytes_are_the_size_or_else_the_limits() -> None:
    known, unknown = Member("a", MD5, 5, limit=3), Member("b", MD5, limit=3)
    assert (known.most_bytes, unknown.most_bytes) == (5, 3)
    assert Archive("x.gz", (), MD5, 100, (known, unknown)).most_bytes == 100
    assert Archive("x.gz", (), MD5, None, (known, unknown)).most_bytes == 8
    assert two_archives().download_bytes == 1000 + 7


def test_a_plain_file_is_its_own_only_member() -> None:
    archive = plain_file("a.npy", ("u", "v"), SHA256, None, limit=9)
    assert archive.packing == "none"
    assert archive.members == (Member("a.npy", SHA256, None, 9),)
    assert (archive.checksum, archive.urls, archive.most_bytes) == (SHA256, ("u", "v"), 9)


# --- what there is ----------------------------------------------------------------------------------------------------


def test_nothing_shares_a_name_so_that_folders_and_messages_mean_one_thing() -> None:
    assert max(Counter(files.name for files in everything()).values()) == 1
    assert {*ALL} == {*sources.names(), *test_sets.names(), *(files.name for files in PUBLISHED.values())}


@pytest.mark.parametrize("name", ALL)
def test_what_is_published_is_found_by_its_name(name: str) -> None:
    assert published(name) == ALL[name]
    assert ALL[name].licence
    assert ALL[name].citation


@pytest.mark.parametrize("name", ALL)
def test_checksums_are_hexadecimal_of_a_known_kind(name: str) -> None:
    files = ALL[name]
    known = [archive.checksum for archive in files.archives] + [member.checksum for member in files.members]
    known += [checksum for archive in files.archives for checksum in archive.repackaged]
    assert all(re.fullmatch(r"[0-9a-f]+", checksum) and len(checksum) in LENGTHS for checksum in known)


@pytest.mark.parametrize("name", ALL)
def test_no_two_files_of_a_folder_have_one_name(name: str) -> None:
    assert max(Counter(member.name for member in ALL[name].members).values(), default=1) == 1


@pytest.mark.parametrize(("name", "archive"), ARCHIVES, ids=lambda value: getattr(value, "name", value))
def test_every_archive_has_members_and_addresses_of_that_file(name: str, archive: Archive) -> None:
    assert archive.members
    assert archive.urls
    for url in archive.urls:
        parts = urlsplit(url)
        assert parts.scheme in ("http", "https")
        assert parts.path.rsplit("/", 1)[-1] == archive.name


def test_the_official_address_comes_first() -> None:
    official = {
        "cifar10": "www.cs.toronto.edu",
        "cifar100": "www.cs.toronto.edu",
        "cifar10_c": "zenodo.org",
        "cifar100_c": "zenodo.org",
        "svhn": "ufldl.stanford.edu",
        "tiny_imagenet": "cs231n.stanford.edu",
        "fashion_mnist": "fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "cifar10_1": "raw.githubusercontent.com",
        "cifar10_1_v4": "raw.githubusercontent.com",
        "cifar10_2": "raw.githubusercontent.com",
        "cifar10_h": "raw.githubusercontent.com",
        "cifar10n": "raw.githubusercontent.com",
        "cifar100n": "raw.githubusercontent.com",
    }
    assert {name: urlsplit(archive.urls[0]).hostname for name, archive in ARCHIVES} == official


@pytest.mark.parametrize(("name", "archive"), ARCHIVES, ids=lambda value: getattr(value, "name", value))
def test_a_packed_archive_says_its_size(name: str, archive: Archive) -> None:
    """Without it a tar could not be bounded: its members, all the less those that `only` keeps, are not all of it."""
    assert archive.size is not None or archive.packing == "none"


@pytest.mark.parametrize("name", ["cifar10_c", "cifar100_c"])
def test_an_official_suite_has_the_labels_and_all_nineteen_corruptions(name: str) -> None:
    expected = {f"{corruption}.npy" for corruption in corruptions.names()}
    assert len(expected) == 19
    assert {member.name for member in ALL[name].members} == {"labels.npy", *expected}
    array = 128 + 50_000 * 32 * 32 * 3
    assert all(member.most_bytes >= array for member in ALL[name].members)
    # the official size, which is that of 19 arrays and 50,000 one-byte labels in tar's blocks
    blocks = 19 * (-(-array // 512) * 512 + 512) + (-(-(128 + 50_000) // 512) * 512 + 512)
    assert 0 <= ALL[name].archives[0].size - blocks < 2**14


def test_the_two_official_suites_share_no_file() -> None:
    ten, hundred = ({member.checksum for member in ALL[name].members} for name in ("cifar10_c", "cifar100_c"))
    assert len(ten) == len(hundred) == 20
    assert not ten & hundred


@pytest.mark.parametrize(("name", "count"), [("cifar10_1", 2000), ("cifar10_1_v4", 2021)])
def test_the_sizes_of_cifar10_1_are_those_of_its_arrays(name: str, count: int) -> None:
    data, labels = (archive.size for archive in ALL[name].archives)
    assert (data, labels) == (128 + count * 32 * 32 * 3, 128 + count * 4)


@pytest.mark.parametrize("name", SETS)
def test_a_test_set_is_for_a_source_that_there_is_or_for_any(name: str) -> None:
    found = SETS[name]
    assert found.source in ("", *sources.names())
    assert found.fits(found.source or "digits")
    assert found.fits("digits") == (found.source == "")
    assert isinstance(found, NewImages | HumanJudgements | Corruptions)
    hash(found)  # plans look prepared test sets up by them


def test_only_the_set_that_is_for_any_source_is_generated_and_says_whose_it_is() -> None:
    assert [name for name, found in SETS.items() if isinstance(found, Corruptions) and found.generated] == [
        "corruptions"
    ]
    assert SETS["corruptions"].title_for("digits") == "digits-C (generated)"
    assert SETS["cifar10_c"].title_for("cifar10") == "CIFAR-10-C"
    assert len({found.title for found in SETS.values()}) == len(SETS)


# --- names that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10-c", "cifar10_1_v6", "cifar10_c "])
def test_a_test_set_that_is_none_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(DataError, match=re.escape(repr(name))) as caught:
        test_sets.load(name)
    assert "did you mean 'cifar10_" in caught.value.problem
    assert all(known in caught.value.fix for known in test_sets.names())


@pytest.mark.parametrize("name", ["registry", "__init__", "_cifar_c", "test"])
def test_modules_that_are_no_test_set_are_none(name: str) -> None:
    assert name not in test_sets.names()
    with pytest.raises(DataError, match="no test set is called"):
        test_sets.load(name)


@pytest.mark.parametrize("content", ["", "TEST_SET = 1", "from flatmin.data.test_sets.cifar10_c import TEST_SET"])
def test_a_module_without_its_test_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    import flatmin.data.test_sets as package

    (tmp_path / "mine_to_be.py").write_text(content)
    monkeypatch.setattr(package, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "flatmin.data.test_sets.mine_to_be", raising=False)
    with pytest.raises(DataError, match=r"mine_to_be\.py defines no TEST_SET named 'mine_to_be'"):
        test_sets.load("mine_to_be")


def test_what_nobody_published_is_refused_with_the_nearest_of_all_names() -> None:
    """`flatmin data show` takes the names of test sets and of human labels too, so these are offered."""
    for wrong, right in (("cifar10c", "cifar10_c"), ("cifar-100n", "cifar100n")):
        with pytest.raises(DataError) as caught:
            published(wrong)
        assert right in str(caught.value)
