from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from flatmin.data.errors import DataError
from flatmin.data.own import decoding
from flatmin.data.own.decoding import Form, decode
from flatmin.data.own.image_folder import read_image_folder
from flatmin.data.own.listing import fingerprint
from flatmin.data.own.parquet import read_parquet
from flatmin.randomness import numpy_generator

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def encoded(pixels: NDArray[np.generic] | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(value: int) -> bytes:
    """A 4 x 4 image in which every pixel has this value."""
    return encoded(np.full((4, 4, 3), value, dtype=np.uint8))


def write(folder: Path, classes: dict[str, list[int]]) -> Path:
    """Write a folder of plain images, named by their place in the list."""
    for name, values in classes.items():
        (folder / name).mkdir(parents=True)
        for index, value in enumerate(values):
            (folder / name / f"{index:03}.png").write_bytes(plain(value))
    return folder


def two_classes(folder: Path, images: int = 10) -> Path:
    return write(folder, {"cat": list(range(images)), "dog": list(range(100, 100 + images))})


def colour(content: Path | bytes, size: int = 8) -> NDArray[np.uint8]:
    return decode(content, Form(size, 3)).transpose(1, 2, 0)


def grey(content: Path | bytes, size: int = 8) -> NDArray[np.uint8]:
    return decode(content, Form(size, 1))[0]


class TestDecoding:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("PNG", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("PPM", {}),
            ("WEBP", {"lossless": True}),
            ("JPEG2000", {"irreversible": False}),
        ],
    )
    def test_lossless_formats_keep_every_pixel(self, kind: str, options: dict[str, object]) -> None:
        assert np.array_equal(colour(encoded(PIXELS, kind, **options)), PIXELS)

    @pytest.mark.parametrize("kind", ["JPEG", "AVIF", "WEBP"])
    def test_lossy_formats_are_read(self, kind: str) -> None:
        smooth = np.add.outer(np.arange(0, 80, 10), np.arange(0, 160, 20)).astype(np.uint8)[..., None].repeat(3, 2)
        assert np.abs(colour(encoded(smooth, kind, quality=95)).astype(int) - smooth).max() < 16

    def test_the_format_is_told_by_content_and_not_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "image.jpg").write_bytes(encoded(PIXELS, "PNG"))
        assert np.array_equal(colour(tmp_path / "image.jpg"), PIXELS)

    def test_a_gif_is_its_first_frame(self) -> None:
        first, second = (Image.new("L", (4, 4), value) for value in (40, 200))
        content = encoded(first, "GIF", save_all=True, append_images=[second])
        assert np.all(grey(content, 4) == 40)

    def test_a_palette_is_looked_up(self) -> None:
        image = Image.new("P", (2, 2))
        image.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
        image.putdata([0, 1, 2, 1])
        expected = [[[0, 0, 0], [10, 20, 30]], [[200, 100, 50], [10, 20, 30]]]
        assert colour(encoded(image), 2).tolist() == expected

    def test_transparent_parts_are_laid_over_white(self) -> None:
        alphas = np.array([[0, 51, 102], [153, 204, 255], [0, 0, 255]], dtype=np.uint8)
        pixels = np.dstack([np.full((3, 3, 3), 100, dtype=np.uint8), alphas])
        expected = 255 - (255 - 100) * alphas.astype(float) / 255
        assert np.abs(grey(encoded(pixels), 3) - expected).max() <= 0.5
        pixels = np.dstack([np.full((3, 3), 100, dtype=np.uint8), alphas])
        assert np.abs(grey(encoded(Image.fromarray(pixels, "LA")), 3) - expected).max() <= 0.5

    def test_the_transparent_colour_of_a_palette_or_of_grey_becomes_white(self) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.putdata([0, 1])
        for content in (encoded(image, transparency=0), encoded(image, "GIF", transparency=0)):
            assert colour(content, 1).shape == (1, 1, 3)
            assert colour(encoded(image.crop((0, 0, 1, 1)), transparency=0), 1).tolist() == [[[255, 255, 255]]]
        assert grey(encoded(Image.new("L", (1, 1), 7), transparency=7), 1).tolist() == [[255]]

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bit_grey_keeps_its_high_bits(self, kind: str) -> None:
        values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
        assert np.array_equal(grey(encoded(values, kind)), np.rint(values / 257))
        assert np.array_equal(colour(encoded(values, kind))[..., 2], np.rint(values / 257))

    def test_16_bit_grey_of_other_byte_orders_and_of_pgm(self) -> None:
        values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
        big_endian = Image.frombytes("I;16B", (8, 8), values.astype(">u2").tobytes())
        pgm = b"P5 8 8 65535\n" + values.astype(">u2").tobytes()
        for content in (encoded(big_endian, "TIFF"), pgm):
            assert np.array_equal(grey(content), np.rint(values / 257))

    @pytest.mark.parametrize("values", [[[70_000]], [[-1]]])
    def test_32_bit_integers_beyond_16_bits_are_refused(self, values: list[list[int]]) -> None:
        with pytest.raises(Exception, match=r"0\.\.65535"):
            grey(encoded(np.array(values, dtype=np.int32), "TIFF"))

    def test_floating_point_pixels_are_refused(self) -> None:
        with pytest.raises(Exception, match="not known what is white"):
            grey(encoded(np.ones((2, 2), dtype=np.float32), "TIFF"))

    def test_black_and_white_bits_become_0_and_255(self) -> None:
        assert grey(encoded(np.eye(3, dtype=bool)), 3).tolist() == (255 * np.eye(3)).tolist()

    def test_cmyk_is_ink(self) -> None:
        image = Image.new("CMYK", (2, 2), (255, 0, 0, 0))
        assert colour(encoded(image, "TIFF"), 2)[0, 0].tolist() == [0, 255, 255]

    def test_grey_is_the_luma_of_itu_r_601(self) -> None:
        luma = PIXELS @ np.array([0.299, 0.587, 0.114])
        assert np.abs(grey(encoded(PIXELS)) - luma).max() < 1

    @pytest.mark.parametrize(
        ("orientation", "upright"),
        [
            (1, lambda a: a),
            (2, lambda a: a[:, ::-1]),
            (3, lambda a: a[::-1, ::-1]),
            (4, lambda a: a[::-1]),
            (5, lambda a: a.T),
            (6, lambda a: np.rot90(a, -1)),
            (7, lambda a: a[::-1, ::-1].T),
            (8, lambda a: np.rot90(a)),
        ],
    )
    def test_images_are_turned_upright(self, orientation: int, upright: Callable[..., NDArray[np.uint8]]) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert np.array_equal(grey(encoded(PIXELS[..., 0], exif=exif)), upright(PIXELS[..., 0]))
        assert np.array_equal(colour(encoded(PIXELS, exif=exif))[..., 1], upright(PIXELS[..., 1]))

    @pytest.mark.parametrize("size", [5, 16, 31])
    def test_a_square_is_scaled_as_torchvision_scales(self, size: int) -> None:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize

        image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8))
        expected = np.asarray(resize(image, [size, size], InterpolationMode.BICUBIC))
        assert np.array_equal(colour(encoded(image), size), expected)

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_framing_is_that_of_scaling_the_shorter_side_and_cropping_the_centre(self, turned: bool) -> None:
        from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

        pixels = np.random.default_rng(1).integers(0, 256, (24, 48), dtype=np.uint8)
        pixels = pixels.T.copy() if turned else pixels
        expected = np.asarray(Compose([Resize(12, InterpolationMode.BICUBIC), CenterCrop(12)])(Image.fromarray(pixels)))
        # Pillow scales one side after the other and rounds in between
        assert np.abs(grey(encoded(pixels), 12).astype(int) - expected).max() <= 1

    def test_a_very_long_image_costs_no_more_than_itself(self) -> None:
        # Scaled to 64 pixels on its shorter side, it would have 16 billion
        pixels = np.zeros((1, 4_000_000), dtype=np.uint8)
        pixels[0, 1_999_990:2_000_010] = np.arange(100, 120)
        assert np.array_equal(grey(encoded(pixels), 64), grey(encoded(pixels[:, 1_999_990:2_000_010]), 64))

    @pytest.mark.parametrize(("size", "channels"), [(0, 3), (8, 2), (8, 4)])
    def test_impossible_forms_are_refused(self, size: int, channels: int, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be made"):
            read_image_folder(two_classes(tmp_path / "own"), size=size, channels=channels)


class TestImageFolder:
    def test_images_and_labels_belong_together(self, tmp_path: Path) -> None:
        own = read_image_folder(two_classes(tmp_path / "own"), size=4)
        assert own.classes == ("cat", "dog")
        for images, labels in (
            (own.arrays.train_images, own.arrays.train_labels),
            (own.arrays.test_images, own.arrays.test_labels),
        ):
            assert images.dtype == np.uint8
            assert images.shape[1:] == (3, 4, 4)
            assert labels.dtype == np.int64
            assert np.array_equal(images[:, 0, 0, 0] >= 100, labels == 1)
        values = [*own.arrays.train_images[:, 0, 0, 0], *own.arrays.test_images[:, 0, 0, 0]]
        assert sorted(values) == [*range(10), *range(100, 110)]

    def test_the_test_part_is_stratified_and_drawn_by_the_named_generator(self, tmp_path: Path) -> None:
        own = read_image_folder(
            write(tmp_path / "own", {"a": list(range(20)), "b": list(range(100, 150))}), size=4, test_fraction=0.3
        )
        keys = numpy_generator(0, "own", "test").random(70)
        smallest = [*np.sort(np.argsort(keys[:20])[:6]), *(100 + np.sort(np.argsort(keys[20:])[:15]))]
        assert own.arrays.test_images[:, 0, 0, 0].tolist() == smallest
        assert own.arrays.test_labels.tolist() == [0] * 6 + [1] * 15
        assert own.split.startswith("none is given: 21 test images, stratified")

    def test_the_result_depends_on_names_and_contents_alone(self, tmp_path: Path) -> None:
        one = two_classes(tmp_path / "one")
        other = tmp_path / "other"
        for path in sorted(one.rglob("*.png"), reverse=True):
            copy = other / path.relative_to(one)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        assert fingerprint(one) == fingerprint(other)
        assert same(read_image_folder(one, size=4), read_image_folder(other, size=4))

    def test_the_result_does_not_depend_on_the_number_of_threads(self, tmp_path, monkeypatch) -> None:
        folder = two_classes(tmp_path / "own", images=100)
        many = read_image_folder(folder, size=3)
        monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)
        monkeypatch.setattr(decoding, "_IMAGES_AT_A_TIME", 7)
        assert same(many, read_image_folder(folder, size=3))

    def test_numbers_are_ordered_as_numbers_and_names_by_code_points(self, tmp_path: Path) -> None:
        numbers = write(tmp_path / "numbers", {name: [int(name)] * 5 for name in ("10", "9", "007")})
        own = read_image_folder(numbers, size=4)
        assert own.classes == ("007", "9", "10")
        assert np.array_equal(np.array([7, 9, 10])[own.arrays.train_labels], own.arrays.train_images[:, 0, 0, 0])
        names = write(tmp_path / "names", {name: [1] * 5 for name in ("b", "C", "10", "9", "ä")})
        assert read_image_folder(names, size=4).classes == ("10", "9", "C", "b", "ä")

    @pytest.mark.parametrize("test", ["test", "val", "validation"])
    def test_parts_that_are_given_are_taken(self, test: str, tmp_path: Path) -> None:
        write(tmp_path / "own" / "train", {"b": [1, 2], "a": [3, 4, 5]})
        write(tmp_path / "own" / test, {"a": [6], "b": [7, 8]})
        own = read_image_folder(tmp_path / "own", size=4, channels=1)
        assert own.classes == ("a", "b")
        assert own.arrays.train_images[:, 0, 0, 0].tolist() == [3, 4, 5, 1, 2]
        assert own.arrays.train_labels.tolist() == [0, 0, 0, 1, 1]
        assert own.arrays.test_images[:, 0, 0, 0].tolist() == [6, 7, 8]
        assert own.arrays.test_labels.tolist() == [0, 1, 1]
        assert own.split == f"the folder's own: train and {test}"

    def test_a_validation_part_beside_a_test_part_is_said_to_be_unused(self, tmp_path: Path) -> None:
        for part, value in (("train", 1), ("val", 2), ("test", 3)):
            write(tmp_path / part, {"a": [value] * 3, "b": [value] * 3})
        own = read_image_folder(tmp_path, size=4)
        assert np.all(own.arrays.test_images == 3)
        assert own.split == "the folder's own: train and test (val not used)"

    def test_train_alone_is_a_class_like_another(self, tmp_path: Path) -> None:
        assert read_image_folder(write(tmp_path / "own", {"train": [1] * 5, "plane": [2] * 5}), size=4).classes == (
            "plane",
            "train",
        )

    def test_what_systems_leave_behind_is_passed_over(self, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own")
        before = fingerprint(folder)
        expected = read_image_folder(folder, size=4)
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden/file", "__MACOSX/cat/._000.png"):
            for place in (folder, folder / "cat"):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text("no image")
        assert fingerprint(folder) == before
        assert same(expected, read_image_folder(folder, size=4))

    def test_progress_counts_to_the_end(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(decoding, "_IMAGES_AT_A_TIME", 8)
        told: list[tuple[int, int]] = []
        read_image_folder(two_classes(tmp_path / "own"), size=4, progress=lambda *counts: told.append(counts))
        assert told == [(8, 20), (16, 20), (20, 20)]

    def test_images_are_not_held_besides_the_arrays(self, tmp_path, monkeypatch) -> None:
        """A part of the images is decoded, and dropped, before the next one is asked for."""
        monkeypatch.setattr(decoding, "_IMAGES_AT_A_TIME", 4)
        asked, done = [], []

        def images():
            for index in range(12):
                asked.append(index)
                assert len(asked) <= 4 + (done[-1] if done else 0)
                yield decoding.Encoded(str(index), plain(index), np.empty((3, 4, 4), dtype=np.uint8))

        decoding.decode_all(images(), Form(4, 3), total=12, where="x", progress=lambda count, _: done.append(count))
        assert done == [4, 8, 12]


def same(one, other) -> bool:
    arrays = zip(one.arrays.by_name().values(), other.arrays.by_name().values(), strict=True)
    return all(np.array_equal(a, b) for a, b in arrays) and (one.classes, one.split) == (other.classes, other.split)


def missing(folder: Path) -> None:
    shutil.rmtree(folder)


def is_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


def empty(folder: Path) -> None:
    missing(folder)
    folder.mkdir()


def flat(folder: Path) -> None:
    empty(folder)
    (folder / "a.png").write_bytes(plain(1))


def image_beside(folder: Path) -> None:
    (folder / "stray.png").write_bytes(plain(1))


def one_class(folder: Path) -> None:
    shutil.rmtree(folder / "dog")


def empty_class(folder: Path) -> None:
    (folder / "eel").mkdir()
    (folder / "eel" / ".DS_Store").write_text("x")


def nested(folder: Path) -> None:
    write(folder, {"pets/cat": [1], "pets/dog": [1]})


def few_images(folder: Path) -> None:
    write(folder, {"eel": [1, 2]})


def in_parts(folder: Path, train: dict[str, list[int]], test: dict[str, list[int]]) -> None:
    missing(folder)
    write(folder / "train", train)
    write(folder / "val", test)


def class_without_test(folder: Path) -> None:
    in_parts(folder, {"a": [1, 2], "b": [1, 2], "c": [1, 2]}, {"a": [1], "b": [1]})


def class_without_training(folder: Path) -> None:
    in_parts(folder, {"a": [1, 2], "b": [1, 2]}, {"a": [1], "b": [1], "c": [1]})


def empty_class_in_test(folder: Path) -> None:
    in_parts(folder, {"a": [1, 2], "b": [1, 2]}, {"a": [1], "b": []})


def single_training_image(folder: Path) -> None:
    in_parts(folder, {"a": [1, 2], "b": [1]}, {"a": [1], "b": [1]})


def folder_beside_parts(folder: Path) -> None:
    in_parts(folder, {"a": [1, 2], "b": [1, 2]}, {"a": [1], "b": [1]})
    write(folder, {"extra": [1]})


def file_in_a_part(folder: Path) -> None:
    in_parts(folder, {"a": [1, 2], "b": [1, 2]}, {"a": [1], "b": [1]})
    (folder / "train" / "labels.csv").write_text("x")


def link_out(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    outside.write_bytes(plain(1))
    (folder / "cat" / "link.png").symlink_to(outside)


def link_to_a_folder(folder: Path) -> None:
    (folder / "cat" / "loop").symlink_to(folder)


def dangling_link(folder: Path) -> None:
    (folder / "cat" / "link.png").symlink_to("nowhere.png")


def link_to_itself(folder: Path) -> None:
    (folder / "cat" / "link.png").symlink_to("link.png")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "pipe.png")


def bytes_name(folder: Path) -> None:
    with open(os.fsencode(folder / "cat") + b"/\xff.png", "wb"):  # noqa: PTH123 (a name that no str can spell)
        pass


class TestBadFolders:
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (missing, "there is no folder .*own\n"),
            (is_a_file, "own is no folder that can be listed"),
            (empty, "own has nothing in it, so there are no classes\nMake a folder for each class"),
            (flat, "own has 1 files directly in it and no folders"),
            (image_beside, "files beside its class folders:\n  stray.png"),
            (one_class, r"own has 1 class \(cat\)"),
            (empty_class, "eel: it has no images"),
            (nested, "pets would be a class, but has folders in it:\n  cat/\n  dog/"),
            (few_images, "eel: 2 images, of which 0 for the test"),
            (class_without_test, "val/c: there is no such folder"),
            (class_without_training, "train/c: there is no such folder"),
            (empty_class_in_test, "val/b: it has no images"),
            (single_training_image, "train: 1 of 2 classes have fewer than 2 images:\n  b: 1"),
            (folder_beside_parts, "more than its parts, train and val:\n  extra/"),
            (file_in_a_part, "train holds files beside its class folders:\n  labels.csv"),
            (link_out, "link.png is a link that leads out of"),
            (link_to_a_folder, "loop is a link to a folder"),
            (dangling_link, "link.png is a link that leads nowhere"),
            (link_to_itself, "link.png is a link that leads nowhere"),
            (pipe, "pipe.png is neither a file nor a folder"),
            (bytes_name, r"the name b'\\xff.png' in .*cat is not valid UTF-8"),
        ],
    )
    def test_the_error_says_what_is_wrong(self, spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own")
        spoil(folder)
        with pytest.raises(DataError, match=message) as caught:
            read_image_folder(folder, size=4)
        assert caught.value.fix

    def test_links_to_files_inside_are_followed_and_the_folder_may_be_a_link(self, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own")
        expected = read_image_folder(folder, size=4)
        (folder / "cat" / "003.png").replace(folder / "cat" / ".003.png")
        (folder / "cat" / "003.png").symlink_to(".003.png")
        (tmp_path / "link").symlink_to(folder)
        assert same(expected, read_image_folder(tmp_path / "link", size=4))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "PPM"])
    def test_a_truncated_image_is_named(self, kind: str, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own")
        content = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), kind)
        (folder / "dog" / "bad").write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(DataError, match=r"1 of 21 images of .*own cannot be used:\n  dog/bad: "):
            read_image_folder(folder, size=4)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "it is empty"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"\xef\xbb\xbf<HTML>", "a web page"),
            (b"some text", "no image in a format that is read"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "no image in a format that is read"),
        ],
    )
    def test_what_is_no_image_is_named(self, content: bytes, message: str, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own")
        (folder / "cat" / "bad.png").write_bytes(content)
        with pytest.raises(DataError, match=rf"cat/bad.png: {message}"):
            read_image_folder(folder, size=4)

    def test_ten_bad_images_are_named_and_the_others_counted(self, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own", images=15)
        for path in [*(folder / "cat").iterdir()][:12]:
            path.write_text("x")
        with pytest.raises(DataError, match="12 of 30 images") as caught:
            read_image_folder(folder, size=4)
        assert caught.value.problem.count("cat/") == 10
        assert caught.value.problem.endswith("and 2 more")

    @pytest.mark.parametrize("side", [11, 40])
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_more_pixels_than_pillow_s_limit_are_refused(self, side: int, tmp_path, monkeypatch) -> None:
        folder = two_classes(tmp_path / "own")
        (folder / "cat" / "big.png").write_bytes(encoded(np.zeros((side, side), dtype=np.uint8)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match=r"cat/big.png: .*(safe to unpack|exceeds limit)"):
            read_image_folder(folder, size=4)

    def test_an_unreadable_file_is_named(self, tmp_path, monkeypatch) -> None:
        folder = two_classes(tmp_path / "own")

        def denied(path: Path, *args: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
        with pytest.raises(DataError, match=r"000.png cannot be read \(Permission denied\)"):
            fingerprint(folder)

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
    def test_a_test_fraction_outside_of_0_and_1_is_refused(self, fraction: float, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is not between 0 and 1"):
            read_image_folder(two_classes(tmp_path / "own"), size=4, test_fraction=fraction)

    def test_a_class_that_the_test_part_would_use_up_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cat: 4 images, of which 3 for the test"):
            read_image_folder(two_classes(tmp_path / "own", images=4), size=4, test_fraction=0.75)
        assert len(read_image_folder(tmp_path / "own", size=4, test_fraction=0.5).arrays.test_labels) == 4


class TestFingerprint:
    def test_it_is_the_sha_256_of_names_and_contents(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "own", {"b": [1], "a": [2, 3]})
        (folder / "c.txt").write_text("c")
        lines = [
            f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
            for name in ("c.txt", "a/000.png", "a/001.png", "b/000.png")
        ]
        assert fingerprint(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()

    def test_it_changes_with_names_and_contents_and_not_with_dates(self, tmp_path: Path) -> None:
        folder = two_classes(tmp_path / "own")
        before = fingerprint(folder)
        file = folder / "cat" / "000.png"
        os.utime(file, (1, 1))
        assert fingerprint(folder) == before
        file.rename(folder / "cat" / "00.png")
        renamed = fingerprint(folder)
        (folder / "cat" / "00.png").write_bytes(plain(9))
        assert len({before, renamed, fingerprint(folder)}) == 3

    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there is no folder"):
            fingerprint(tmp_path / "own")


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def class_label(names: list[str]) -> dict[bytes, bytes]:
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def table(
    values: list[int], labels: list[object] | pa.Array, *, raw: bool = False, names: list[str] | None = None
) -> pa.Table:
    """A table of plain images of these values."""
    contents = [plain(value) for value in values]
    images = pa.array(contents) if raw else pa.array([{"bytes": b, "path": None} for b in contents], STRUCT)
    made = pa.table({"image": images, "label": labels})
    return made.replace_schema_metadata(class_label(names)) if names else made


def stored(path: Path, content: pa.Table, **options: object) -> Path:
    pq.write_table(content, path, **options)
    return path


VALUES = [*range(10), *range(100, 110)]


class TestParquet:
    def test_a_file_gives_what_a_folder_of_the_same_images_gives(self, tmp_path: Path) -> None:
        expected = read_image_folder(two_classes(tmp_path / "own"), size=4)
        for raw in (False, True):
            content = table(VALUES, ["cat"] * 10 + ["dog"] * 10, raw=raw)
            assert same(expected, read_parquet([stored(tmp_path / "all.parquet", content)], [], size=4))

    def test_rows_stay_in_order_over_files_row_groups_and_batches(self, tmp_path, monkeypatch) -> None:
        values, labels = [i % 256 for i in range(700)], [i % 2 for i in range(700)]
        content = table(values, labels)
        files = [
            stored(tmp_path / "one.parquet", content.slice(0, 300), row_group_size=77),
            stored(tmp_path / "two.parquet", content.slice(300)),
        ]
        test = [stored(tmp_path / "test.parquet", content.slice(0, 9))]
        own = read_parquet(files, test, size=4)
        assert own.arrays.train_images[:, 0, 0, 0].tolist() == values
        assert own.arrays.train_labels.tolist() == labels
        assert own.arrays.test_images[:, 1, 3, 3].tolist() == list(range(9))
        assert own.split == "the files given: one.parquet, two.parquet to train, test.parquet to test"

    def test_names_come_from_the_metadata_of_hugging_face(self, tmp_path: Path) -> None:
        content = table(VALUES, [1] * 10 + [0] * 10, names=["dog", "cat"])
        own = read_parquet([stored(tmp_path / "all.parquet", content)], [], size=4)
        assert own.classes == ("dog", "cat")
        assert np.array_equal(own.arrays.train_images[:, 0, 0, 0] < 100, own.arrays.train_labels == 1)

    @pytest.mark.parametrize(
        "metadata", [None, {b"huggingface": b"{"}, {b"huggingface": b"[]"}, {b"huggingface": b'{"info": {}}'}]
    )
    def test_without_names_the_distinct_labels_are_the_classes(self, metadata, tmp_path: Path) -> None:
        labels = pa.array([40] * 10 + [7] * 10, pa.uint8())
        content = table(VALUES, labels).replace_schema_metadata(metadata)
        own = read_parquet([stored(tmp_path / "all.parquet", content)], [], size=4)
        assert own.classes == ("7", "40")
        assert np.array_equal(own.arrays.train_images[:, 0, 0, 0] < 100, own.arrays.train_labels == 1)

    @pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
    def test_labels_may_be_strings_of_any_kind(self, kind: str, tmp_path: Path) -> None:
        labels = pa.array(["10"] * 10 + ["9"] * 10, pa.large_string() if kind == "large_string" else pa.string())
        labels = labels.dictionary_encode() if kind == "dictionary" else labels
        own = read_parquet([stored(tmp_path / "all.parquet", table(VALUES, labels))], [], size=4)
        assert own.classes == ("9", "10")
        assert np.array_equal(own.arrays.train_images[:, 0, 0, 0] < 100, own.arrays.train_labels == 1)

    def test_columns_may_have_other_names(self, tmp_path: Path) -> None:
        content = table(VALUES, [0] * 10 + [1] * 10).rename_columns(["img", "fine_label"])
        metadata = {key: value.replace(b'"label"', b'"fine_label"') for key, value in class_label(["a", "b"]).items()}
        content = content.replace_schema_metadata(metadata)
        own = read_parquet([stored(tmp_path / "all.parquet", content)], [], size=4, image="img", label="fine_label")
        assert own.classes == ("a", "b")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (pa.table({"img": [1], "y": [1]}), "no column 'image' and no column 'label'; it has 'img', 'y'"),
            (pa.table({"image": ["a.png"], "label": [1]}), "column 'image' is of type string"),
            (pa.table({"image": [{"path": "a"}], "label": [1]}), "column 'image' is of type struct"),
            (table([1, 2], [0.0, 1.0]), "labels in column 'label' are of type double"),
            (table([1, 2], [True, False]), "labels in column 'label' are of type bool"),
            (table([1, 2, 3], [0, None, None]), r"2 values in column 'label' are null \(rows from 0: 1, 2\)"),
            (table([1, 2], ["a", None]), r"1 values in column 'label' are null \(rows from 0: 1\)"),
            (table([1] * 15, [-1] * 15), r"15 values in column 'label' are negative \(rows .* 8, 9, \.\.\.\)"),
            (
                table(VALUES, [0] * 10 + [2] * 10, names=["a", "b"]),
                r"name 2 classes, and there are labels beyond: \[2\]",
            ),
            (table(VALUES, [0] * 20, names=["a", "b"]), "b: 0 images, of which 0 for the test"),
            (table(VALUES, [0] * 20), r"has 1 class \(0\)"),
            (table([], pa.array([], pa.int64())), "has 0 classes"),
            (table(VALUES, [0] * 18 + [1] * 2), "1: 2 images, of which 0 for the test"),
        ],
    )
    def test_the_error_says_what_is_wrong(self, content: pa.Table, message: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=message) as caught:
            read_parquet([stored(tmp_path / "all.parquet", content)], [], size=4)
        assert "all.parquet" in caught.value.problem
        assert caught.value.fix

    def test_bad_images_are_named_by_their_rows(self, tmp_path: Path) -> None:
        images = [{"bytes": plain(value), "path": None} for value in VALUES]
        images[3] = None
        images[5] = {"bytes": None, "path": "elsewhere.png"}
        images[7] = {"bytes": b"<html>", "path": None}
        content = pa.table({"image": pa.array(images, STRUCT), "label": [0] * 10 + [1] * 10})
        with pytest.raises(DataError, match="3 of 20 images") as caught:
            read_parquet([stored(tmp_path / "all.parquet", content)], [], size=4)
        lines = caught.value.problem.splitlines()[1:]
        assert [line.split(":")[0] for line in lines] == [f"  all.parquet, row {row}" for row in (3, 5, 7)]
        assert ["null" in line for line in lines] == [True, True, False]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is no parquet file that can be read"),
            (b"PAR1 and no more", "is no parquet file that can be read"),
            (b"<!doctype html><title>Sign in</title>", r"is a web page \(HTML\)"),
            (None, "there is no file"),
        ],
    )
    def test_what_is_no_parquet_file_is_named(self, content: bytes | None, message: str, tmp_path: Path) -> None:
        path = tmp_path / "all.parquet"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=rf"all.parquet.* {message}|{message}.*all.parquet"):
            read_parquet([path], [], size=4)

    def test_damage_among_the_images_is_found(self, tmp_path: Path) -> None:
        path = stored(tmp_path / "all.parquet", table(VALUES, [0] * 10 + [1] * 10, raw=True), compression="zstd")
        content = bytearray(path.read_bytes())
        content[10:200] = bytes(190)
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"all.parquet is no parquet file that can be read"):
            read_parquet([path], [], size=4)

    def test_files_that_disagree_on_the_classes_are_refused(self, tmp_path: Path) -> None:
        integers = stored(tmp_path / "integers.parquet", table(VALUES, [0] * 10 + [1] * 10))
        strings = stored(tmp_path / "strings.parquet", table(VALUES, ["a"] * 10 + ["b"] * 10))
        names = [
            stored(tmp_path / f"{names}.parquet", table(VALUES, [0] * 10 + [1] * 10, names=list(names)))
            for names in ("ab", "ba")
        ]
        for train, test in (([integers], [strings]), ([names[0]], [names[1]])):
            with pytest.raises(DataError, match="the files disagree on what the labels are"):
                read_parquet(train, test, size=4)

    def test_a_class_that_one_part_lacks_is_named(self, tmp_path: Path) -> None:
        two = stored(tmp_path / "two.parquet", table(VALUES, ["a"] * 10 + ["b"] * 10))
        three = stored(tmp_path / "three.parquet", table(VALUES, ["a"] * 10 + ["b"] * 8 + ["c"] * 2))
        with pytest.raises(DataError, match=r"two.parquet: 1 of 3 classes have fewer than 2 images:\n  c: 0"):
            read_parquet([two], [three], size=4)
        with pytest.raises(DataError, match=r"two.parquet: 1 of 3 classes have fewer than 1 image:\n  c: 0"):
            read_parquet([three], [two], size=4)

    def test_no_file_at_all_is_an_error(self) -> None:
        with pytest.raises(DataError, match="no parquet file of training images"):
            read_parquet([], [], size=4)
