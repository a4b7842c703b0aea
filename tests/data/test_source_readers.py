from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from flatmin.data.errors import DataError
from flatmin.data.mat import read_mat
from flatmin.data.npy import read_npy, read_npz
from flatmin.data.source import check_arrays
from flatmin.data.sources import svhn, tiny_imagenet
from flatmin.data.torch_files import read_torch_arrays
from flatmin.data.untrusted import open_zip
from flatmin.data.zipped_images import read_zipped_images


def zipped(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


# --- npy and npz ------------------------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def lying(shape: tuple[int, ...], content: bytes = b"x", dtype: str = "|u1") -> bytes:
    """Return a ``.npy`` file whose header promises ``shape``, and which holds ``content``."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + content


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<i4", "<i8", "<f8"])
def test_an_array_is_read_as_numpy_wrote_it(dtype: str, order: str, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 100, (5, 2, 3)), dtype=dtype, order=order)
    (tmp_path / "a.npy").write_bytes(npy(array))
    np.savez(tmp_path / "plain.npz", a=array, b=np.array(["kept"], dtype=object))
    np.savez_compressed(tmp_path / "packed.npz", a=array)
    for found in (
        read_npy(tmp_path / "a.npy", dtype, (None, 2, 3)),
        read_npz(tmp_path / "plain.npz", {"a": (dtype, (5, 2, 3))})["a"],
        read_npz(tmp_path / "packed.npz", {"a": (dtype, (None, None, None))})["a"],
    ):
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype
        found[0] = 1  # an array of one's own, as torch wants it


WRONG_NPY = {
    "a hundred gigabytes": (lying((10**11,)), "holds 1 bytes of data, its header promises 100000000000"),
    "a hundred gigabytes of the right shape": (lying((10**11, 2)), "its header promises 200000000000"),
    "more than a machine can count": (lying((2**70, 2)), "its header promises"),
    "no values": (lying((0, 2), b""), r"not uint8 \[n, 2\]"),
    "one dimension more": (npy(np.zeros((3, 2, 1), np.uint8)), r"is uint8 \(3, 2, 1\), not uint8 \[n, 2\]"),
    "another length": (npy(np.zeros((3, 5), np.uint8)), r"not uint8 \[n, 2\]"),
    "another type": (npy(np.zeros((3, 2), np.int8)), r"is int8 \(3, 2\)"),
    "objects": (npy(np.array([[None, os.system]])), "is object"),
    "cut short": (npy(np.zeros((3, 2), np.uint8))[:-1], "holds 5 bytes of data, its header promises 6"),
    "goes on": (npy(np.zeros((3, 2), np.uint8)) + b"x", "holds 7 bytes"),
    "web page": (b"<!DOCTYPE html><html>try later</html>", "not a readable npy file"),
    "empty": (b"", "not a readable npy file"),
    "an unknown version": (b"\x93NUMPY\x03\x00" + npy(np.zeros((3, 2), np.uint8))[8:], r"version \(3, 0\)"),
}


@pytest.mark.parametrize(("content", "reason"), WRONG_NPY.values(), ids=WRONG_NPY)
def test_a_wrong_npy_file_is_refused_before_memory_is_taken(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    zipped(tmp_path / "a.npz", {"a.npy": content})
    with pytest.raises(DataError, match=reason):
        read_npy(tmp_path / "a.npy", np.uint8, (None, 2) if b"(100000000000,)" not in content else (None,))
    with pytest.raises(DataError):
        read_npz(tmp_path / "a.npz", {"a": (np.uint8, (None, 2) if b"(100000000000,)" not in content else (None,))})


def test_the_byte_order_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3, dtype=">i4"))
    with pytest.raises(DataError, match="is >i4"):
        read_npy(tmp_path / "a.npy", "<i4", (3,))


def test_a_missing_file_and_a_missing_array_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        read_npy(tmp_path / "absent.npy", np.uint8, (1,))
    np.savez(tmp_path / "a.npz", a=np.zeros(1))
    with pytest.raises(DataError, match="no array 'b'"):
        read_npz(tmp_path / "a.npz", {"b": (np.float64, (1,))})


def test_a_compressed_array_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("flatmin.data.npy.MOST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10**6 + 1, np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 10**4
    with pytest.raises(DataError, match="its header promises 1000001"):
        read_npz(tmp_path / "bomb.npz", {"a": (np.uint8, (None,))})


# --- SVHN -------------------------------------------------------------------------------------------------------------


def svhn_file(path: Path, labels: list[int], *, compressed: bool = True) -> np.ndarray:
    """Write a file as SVHN's are laid out and return its images, [n, row, column, channel]."""
    images = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    arrays = {"X": images.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]}
    savemat(path, arrays, do_compression=compressed)
    return images


def test_svhn_becomes_images_and_digits(tmp_path: Path) -> None:
    train = svhn_file(tmp_path / "train_32x32.mat", [1, 9, 10, 2, 10])
    test = svhn_file(tmp_path / "test_32x32.mat", [10, 3])
    arrays = svhn.read(tmp_path)
    check_arrays(svhn.SOURCE, arrays)
    assert arrays.train_labels.tolist() == [1, 9, 0, 2, 0]
    assert arrays.test_labels.tolist() == [0, 3]
    assert np.array_equal(arrays.train_images, np.moveaxis(train, 3, 1))
    assert np.array_equal(arrays.test_images, np.moveaxis(test, 3, 1))


@pytest.mark.parametrize("label", [0, 11])
def test_an_svhn_label_out_of_range_is_refused(label: int, tmp_path: Path) -> None:
    svhn_file(tmp_path / "train_32x32.mat", [1, label])
    with pytest.raises(DataError, match=r"not all in 1\.\.10"):
        svhn.read(tmp_path)


def test_the_svhn_files_agree_with_torchvision() -> None:
    official = pytest.importorskip("torchvision.datasets").SVHN.split_list
    ours = {archive.name: (archive.urls[0], archive.checksum) for archive in svhn.SOURCE.archives}
    assert ours == {name: (url, md5) for url, name, md5 in (official["train"], official["test"])}


def test_a_mat_file_of_other_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    images, labels = np.zeros((32, 32, 3, 2), np.uint8), np.ones((2, 1), np.uint8)
    for arrays, reason in (
        ({"X": images}, "'y' is no array of unsigned bytes .missing"),
        ({"X": images, "y": labels.astype(float)}, "'y' is no array of unsigned bytes"),
        ({"X": images, "y": labels.astype(np.int8)}, "'y' is no array of unsigned bytes"),
        ({"X": images[:31], "y": labels}, r"'X' is \(31, 32, 3, 2\), not \[32, 32, 3, n\]"),
        ({"X": images[..., :0], "y": labels}, r"'X' is \(32, 32, 3, 0\), not \[32, 32, 3, n\]"),
        ({"X": images, "y": labels[:1]}, "2 images and 1 labels"),
        ({"X": images, "y": "a text"}, "'y' is no array of unsigned bytes"),
    ):
        savemat(path, arrays, do_compression=True)
        with pytest.raises(DataError, match=reason):
            svhn.read(tmp_path)


def test_labels_that_matlab_holds_as_doubles_are_stored_as_bytes(tmp_path: Path) -> None:
    """As in a file of MATLAB's own: an array of class double (6) whose values have the type of unsigned bytes (2)."""
    svhn_file(tmp_path / "train_32x32.mat", [1, 2, 10], compressed=False)
    content = bytearray((tmp_path / "train_32x32.mat").read_bytes())
    flags = content.rindex(struct.pack("<IIII", 6, 8, 9, 0))
    content[flags + 8] = 6
    (tmp_path / "train_32x32.mat").write_bytes(content)
    assert read_mat(tmp_path / "train_32x32.mat", {"y": (None, 1)})["y"].tolist() == [[1], [2], [10]]


@pytest.mark.parametrize("content", [b"", b"<html>gone</html>" * 20, b"MATLAB 7.3 MAT-file" + bytes(200)], ids=len)
def test_another_file_is_no_mat_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(content)
    with pytest.raises(DataError, match="not a readable MATLAB file"):
        svhn.read(tmp_path)


# --- images in a zip --------------------------------------------------------------------------------------------------


def jpeg(mode: str = "RGB", size: tuple[int, int] = (64, 64), kind: str = "JPEG", seed: int = 0) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    image = Image.fromarray(coarse, "CMYK" if mode == "CMYK" else "RGBA").resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, kind, quality=95)
    return buffer.getvalue()


def claiming(width: int, height: int) -> bytes:
    """Return a small JPEG file whose header claims another size."""
    content = jpeg()
    start = content.index(b"\xff\xc0") + 5  # of the frame: marker, length, bits; then height and width
    assert content[start : start + 4] == struct.pack(">HH", 64, 64)
    return content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]


WNIDS = ("n01", "n02", "n03")
ROOT = "tiny-imagenet-200"


def tiny_entries() -> dict[str, bytes]:
    """Return the entries of a zip file laid out as Tiny-ImageNet's: three classes, two training images of each."""
    entries = {
        f"{ROOT}/wnids.txt": b"n02\nn03\nn01\n",
        f"{ROOT}/val/images/": b"",
        f"{ROOT}/test/images/test_0.JPEG": b"?",
    }
    for place, (wnid, number) in enumerate((wnid, number) for wnid in WNIDS for number in range(2)):
        mode = "L" if place == 1 else "RGB"
        entries[f"{ROOT}/train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(mode, seed=place)
    rows = [("val_0.JPEG", "n03"), ("val_1.JPEG", "n01"), ("val_2.JPEG", "n03")]
    for number, (name, _) in enumerate(rows):
        entries[f"{ROOT}/val/images/{name}"] = jpeg(seed=10 + number)
    lines = "".join(f"{name}\t{wnid}\t0\t1\t62\t63\n" for name, wnid in rows)
    return entries | {f"{ROOT}/val/val_annotations.txt": lines.encode()}


def test_tiny_imagenet_is_decoded_from_its_zip_file(tmp_path: Path) -> None:
    entries = tiny_entries()
    arrays = tiny_imagenet.read_archive(zipped(tmp_path / "tiny.zip", entries), WNIDS, 2)
    assert arrays.train_images.shape == (6, 3, 64, 64)
    assert arrays.train_labels.tolist() == [0, 0, 1, 1, 2, 2]  # sorted, not as wnids.txt lists them
    assert arrays.test_labels.tolist() == [2, 0, 2]
    for found, name in (
        (arrays.train_images[3], f"{ROOT}/train/n02/images/n02_1.JPEG"),
        (arrays.test_images[1], f"{ROOT}/val/images/val_1.JPEG"),
    ):
        with Image.open(io.BytesIO(entries[name])) as image:
            assert np.array_equal(found.transpose(1, 2, 0), np.asarray(image))
    grey = arrays.train_images[1]
    assert np.array_equal(grey[0], grey[1])
    assert np.array_equal(grey[0], grey[2])
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.zip"]


def test_tiny_imagenet_has_200_classes_with_names_of_their_own() -> None:
    assert len(set(tiny_imagenet.WNIDS)) == len(set(tiny_imagenet.CLASSES)) == 200
    assert list(tiny_imagenet.WNIDS) == sorted(tiny_imagenet.WNIDS)
    named = dict(zip(tiny_imagenet.WNIDS, tiny_imagenet.CLASSES, strict=True))
    assert (named["n02124075"], named["n03126707"], named["n12267677"]) == ("Egyptian cat", "crane", "acorn")


def test_the_names_of_the_classes_are_wordnet_s() -> None:
    info = pytest.importorskip("timm.data").ImageNetInfo("imagenet-22k-ms")
    described = {name: info.label_name_to_description(name) for name in tiny_imagenet.WNIDS}
    for wnid, name in zip(tiny_imagenet.WNIDS, tiny_imagenet.CLASSES, strict=True):
        assert described[wnid].startswith(name)


WRONG_TINY = {
    "a class more": ({f"{ROOT}/wnids.txt": b"n01\nn02\nn03\nn04\n"}, "does not name the 3 classes"),
    "an image is missing": ({f"{ROOT}/train/n02/images/n02_1.JPEG": None}, "has no entry"),
    "another size": ({f"{ROOT}/train/n02/images/n02_1.JPEG": jpeg(size=(64, 63))}, "has 64 x 63 pixels, not 64 x 64"),
    "a huge picture": ({f"{ROOT}/train/n02/images/n02_1.JPEG": claiming(9_000, 8_000)}, "has 9000 x 8000 pixels"),
    "a huger picture": ({f"{ROOT}/train/n02/images/n02_1.JPEG": claiming(60_000, 60_000)}, "DecompressionBombError"),
    "a large entry": ({f"{ROOT}/train/n02/images/n02_1.JPEG": bytes(2**20 + 1)}, "more than 1048576"),
    "another format": ({f"{ROOT}/train/n02/images/n02_1.JPEG": jpeg(kind="PNG")}, "not a readable JPEG"),
    "half an image": ({f"{ROOT}/train/n02/images/n02_1.JPEG": jpeg()[:400]}, "not a readable JPEG"),
    "an unknown class": ({f"{ROOT}/val/val_annotations.txt": b"val_0.JPEG\tn09\t0\t0\t1\t1\n"}, "without one of the"),
    "an image unlisted": ({f"{ROOT}/val/images/val_3.JPEG": jpeg()}, "does not list each"),
    "no ASCII": ({f"{ROOT}/wnids.txt": "n0é".encode()}, "no ASCII text"),
    "a path that leaves": ({"../escaped": b"x"}, "points out of its folder"),
    "an absolute path": ({"/tmp/escaped": b"x"}, "points out of its folder"),
}


@pytest.mark.parametrize(("changed", "reason"), WRONG_TINY.values(), ids=WRONG_TINY)
def test_a_wrong_tiny_imagenet_is_refused(changed: dict[str, bytes | None], reason: str, tmp_path: Path) -> None:
    entries = {name: content for name, content in (tiny_entries() | changed).items() if content is not None}
    path = zipped(tmp_path / "tiny.zip", entries)
    with pytest.raises(DataError, match=reason):
        tiny_imagenet.read_archive(path, WNIDS, 2)
    assert list(tmp_path.iterdir()) == [path]


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = zipped(tmp_path / "a.zip", {"a": b"1"})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a", b"2")
    with pytest.raises(DataError, match="the same name"), open_zip(path):
        pass


def test_an_entry_that_is_longer_than_the_directory_says_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.JPEG": jpeg() + bytes(10**6)})
    content = bytearray(path.read_bytes())
    size = struct.pack("<I", len(jpeg()) + 10**6)
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, struct.pack("<I", len(jpeg()))))
    with open_zip(path) as archive, pytest.raises(DataError, match="Bad CRC-32"):
        read_zipped_images(archive, ["a.JPEG"], 64)


def test_grey_and_four_coloured_images_become_coloured(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"grey": jpeg("L"), "rgb": jpeg("RGB"), "cmyk": jpeg("CMYK")})
    with open_zip(path) as archive:
        images = read_zipped_images(archive, ["grey", "rgb", "cmyk"], 64)
    assert images.shape == (3, 3, 64, 64)
    assert np.array_equal(images[0, 0], images[0, 2])
    assert not np.array_equal(images[1, 0], images[1, 2])


def test_progress_is_told_at_intervals_and_at_the_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("flatmin.data.zipped_images._REPORT_EVERY", 2)
    path = zipped(tmp_path / "a.zip", {"a": jpeg()})
    told: list[tuple[int, int]] = []
    with open_zip(path) as archive:
        read_zipped_images(archive, ["a"] * 5, 64, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 5), (4, 5), (5, 5)]


# --- torch's files ----------------------------------------------------------------------------------------------------


class Attack:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def torch_file(path: Path, value: object, folder: str = "archive") -> Path:
    return zipped(path, {f"{folder}/data.pkl": pickle.dumps(value, 2), f"{folder}/version": b"3\n"}, zipfile.ZIP_STORED)


def test_a_file_that_torch_saved_is_read_without_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    saved = {"a": np.arange(12, dtype=np.int64).reshape(3, 4), "b": [5, 0, 2]}
    saved |= {kind: np.asarray(saved["a"] % 2, kind, order="F") for kind in ("?", "u1", ">i4", "<f8")}
    torch.save(saved, tmp_path / "a.pt")
    found = read_torch_arrays(tmp_path / "a.pt")
    for name in ("a", "?", "u1", ">i4", "<f8"):
        assert np.array_equal(found[name], saved[name])
        assert found[name].dtype == saved[name].dtype
        found[name][0] = 1  # an array of one's own
    assert (found["b"].tolist(), found["b"].dtype) == ([5, 0, 2], np.int64)


WIDE_MEMO = b"\x80\x02}r" + struct.pack("<I", 0xF0000000) + b"."


def doubling(times: int) -> bytes:
    """Return a pickle of a dict with 2 * 2^times bytes: hexadecimal has two digits for each byte."""
    encode = b"c_codecs\nencode\n"
    innermost = encode + b"X\x02\x00\x00\x00abX\x06\x00\x00\x00latin1\x86R"
    return b"\x80\x02}X\x01\x00\x00\x00a" + encode * times + innermost + b"X\x03\x00\x00\x00hex\x86R" * times + b"s."


class Relabelled:
    """An array's pickle in which its type or shape is another one."""

    def __init__(self, code: str, shape: tuple[int, ...]) -> None:
        self.code, self.shape = code, shape

    def __reduce__(self) -> tuple[object, ...]:
        reconstruct, empty, (version, _, dtype, order, content) = np.zeros(3, np.int32).__reduce__()
        code = self.code

        class Dtype:
            def __reduce__(self) -> tuple[object, ...]:
                return np.dtype, (code, False, True), dtype.__reduce__()[2]

        return reconstruct, empty, (version, self.shape, Dtype(), order, content)


def relabelled(code: str = "i4", shape: tuple[int, ...] = (3,)) -> bytes:
    return pickle.dumps({"a": Relabelled(code, shape)}, 2)


WRONG_TORCH = {
    "tensors": (pickle.dumps({"a": pickle.PickleBuffer}, 2), r"_?pickle\.PickleBuffer"),
    "a list": (pickle.dumps([1], 2), "holds a list"),
    "a key that is a number": (pickle.dumps({1: [1]}, 2), "the key 1"),
    "a text": (pickle.dumps({"a": "b"}, 2), "neither an array nor a list"),
    "an empty list": (pickle.dumps({"a": []}, 2), "neither an array nor a list"),
    "true and false": (pickle.dumps({"a": [True]}, 2), "neither an array nor a list"),
    "objects": (pickle.dumps({"a": np.array([None])}, 2), "an array of list is none of numbers"),
    "objects said to be bytes": (relabelled("O8"), "an array of object is none of numbers"),
    "a type of more bytes": (relabelled("f8"), "buffer size must be a multiple"),
    "a type that is none": (relabelled("??"), "TypeError"),
    "a type of fields": (relabelled("i1,i2"), "none of numbers"),
    "another shape": (relabelled(shape=(4,)), "cannot reshape"),
    "a shape to be guessed": (relabelled(shape=(-1,)), r"said to have the shape \(-1,\)"),
    "a type that is a number": (pickle.dumps({"a": np.dtype("i4")}, 2), "neither an array nor a list"),
    "too large a number": (pickle.dumps({"a": [2**70]}, 2), "OverflowError"),
    "half": (pickle.dumps({"a": [1, 2, 3]}, 2)[:-4], "not a readable pickle"),
    "a table of 30 GB": (WIDE_MEMO, "numbers an object 4026531840"),
    "what doubles 40 times": (doubling(40), "encoded as latin1, not hex"),
}


@pytest.mark.parametrize(("content", "reason"), WRONG_TORCH.values(), ids=WRONG_TORCH)
def test_a_wrong_torch_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        read_torch_arrays(zipped(tmp_path / "a.pt", {"archive/data.pkl": content}))


def test_the_pickle_that_doubles_does_so_elsewhere() -> None:
    assert len(pickle.loads(doubling(10))["a"]) == 2 * 2**10


def test_a_torch_file_that_runs_a_command_is_refused_before_it_runs(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.pt", {"clean_label": Attack(f"touch {tmp_path}/ran")})
    with pytest.raises(DataError, match=r"(posix|nt)\.system"):
        read_torch_arrays(path)
    assert not (tmp_path / "ran").exists()


def test_a_torch_file_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.pt", {"archive/data.pkl": bytes(64 * 2**20 + 1)})
    assert path.stat().st_size < 10**5
    with pytest.raises(DataError, match="more than 67108864"):
        read_torch_arrays(path)


@pytest.mark.parametrize("entries", [{}, {"a/data.pkl": b"N.", "b/data.pkl": b"N."}, {"data.pkl": b"N."}], ids=len)
def test_another_zip_file_is_no_torch_file(entries: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"entries data\.pkl, not one"):
        read_torch_arrays(zipped(tmp_path / "a.pt", entries))


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>"], ids=len)
def test_another_file_is_no_zip_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(DataError, match="not a readable zip file"):
        read_torch_arrays(tmp_path / "a.pt")
