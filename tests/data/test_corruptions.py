from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from flatmin.data.corruptions.registry import EXTRA, MAIN, load, names
from flatmin.data.corruptions.suite import CHUNK, SEVERITIES, corrupt, corrupted_chunks
from flatmin.data.errors import DataError

ALL = MAIN + EXTRA
DETERMINISTIC = {
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
}
NOT_MONOTONE = {
    "glass_blur": "severity 3 has one round, 4 has two with a weaker blur; a blur lessens what was displaced",
    "motion_blur": "severities 3 and 4 share their sigma, and a larger radius adds weights of e^-21 and less",
    "frost": "from severity 3 on the image loses weight, which darkens what the frost has brightened",
    "elastic_transform": "the affine shift, which moves most, falls from severity to severity",
    "spatter": "severity 3 is the strongest water, 4 the weakest mud",
    "saturate": "severities 1 and 2 take saturation away, 3 to 5 add it",
}


def natural(count: int, channels: int, height: int, width: int) -> np.ndarray:
    """Colour images with as much variance at every scale, as photographs have."""
    generator = np.random.default_rng(0)
    shape = (count, channels, height, width)
    noise = generator.standard_normal(shape) + generator.standard_normal((count, 1, height, width))
    values = sum(scale * gaussian_filter(noise, (0, 0, scale, scale), mode="wrap") for scale in (1, 2, 4, 8))
    return np.clip(128 + 60 * values / values.std(), 0, 255).astype(np.uint8)


def test_the_modules_are_the_fifteen_and_the_four() -> None:
    assert (len(MAIN), len(EXTRA)) == (15, 4)
    assert set(names()) == set(ALL)
    assert list(names()) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 17), (3, 33, 20), (1, 224, 224), (3, 100, 224)])
def test_any_size_and_grey(name: str, shape: tuple[int, int, int]) -> None:
    images = natural(2, *shape)
    clean = images.copy()
    for severity in (1, 5):
        corrupted = corrupt(images, name, severity, seed=1)
        assert corrupted.dtype == np.uint8
        assert corrupted.shape == images.shape
        assert corrupted.flags.c_contiguous
        assert np.array_equal(images, clean)
    unchanged = name == "saturate" and shape[0] == 1
    assert np.array_equal(corrupted, clean) == unchanged


@pytest.mark.parametrize("name", ALL)
def test_a_seed_gives_the_same_bits_again_and_another_seed_others(name: str) -> None:
    images = natural(20, 3, 32, 32)
    first = corrupt(images, name, 4, seed=0)
    assert np.array_equal(first, corrupt(images, name, 4, seed=0))
    assert np.array_equal(first, corrupt(images, name, 4, seed=1)) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", ALL)
def test_the_first_chunks_do_not_depend_on_how_many_images_follow(name: str) -> None:
    images = natural(2 * CHUNK + 7, 3, 10, 10)
    whole = corrupt(images, name, 3, seed=0)
    assert np.array_equal(whole[: 2 * CHUNK], corrupt(images[: 2 * CHUNK], name, 3, seed=0))
    assert np.array_equal(whole[:CHUNK], next(iter(corrupted_chunks(images, name, 3, seed=0))))


@pytest.mark.parametrize("name", sorted(set(ALL) - DETERMINISTIC))
def test_chunks_and_images_draw_independently(name: str) -> None:
    one = natural(1, 3, 32, 32)
    first, second = corrupted_chunks(np.repeat(one, 2 * CHUNK, axis=0), name, 4, seed=0)
    assert not np.array_equal(first, second)
    # angles of motion blur differ, but are sometimes rounded to the same pixels
    assert len(np.unique(first.reshape(CHUNK, -1), axis=0)) >= (CHUNK / 3 if name == "motion_blur" else CHUNK)


def test_severities_draw_independently() -> None:
    plain = np.full((20, 3, 32, 32), 128, dtype=np.uint8)
    weak, strong = (corrupt(plain, "gaussian_noise", severity, seed=0).ravel().astype(float) for severity in (1, 2))
    assert abs(np.corrcoef(weak, strong)[0, 1]) < 4 / np.sqrt(plain.size)


def test_chunks_have_a_fixed_size_and_join() -> None:
    images = natural(CHUNK + 3, 1, 8, 8)
    chunks = list(corrupted_chunks(images, "fog", 2, seed=5))
    assert [len(chunk) for chunk in chunks] == [CHUNK, 3]
    assert np.array_equal(np.concatenate(chunks), corrupt(images, "fog", 2, seed=5))
    assert corrupt(images[:0], "fog", 2, seed=5).shape == (0, 1, 8, 8)


def test_views_and_read_only_arrays_are_as_good() -> None:
    images = natural(4, 3, 12, 16)
    last = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    last.flags.writeable = False
    for name in ALL:
        expected = corrupt(images, name, 2, seed=0)
        assert np.array_equal(expected, corrupt(np.moveaxis(last, -1, 1), name, 2, seed=0)), name


@pytest.mark.parametrize("name", ALL)
def test_black_and_white_images_raise_no_arithmetic_error(name: str) -> None:
    for value in (0, 255):
        images = np.full((3, 3, 16, 16), value, dtype=np.uint8)
        for severity in SEVERITIES:
            with np.errstate(invalid="raise", divide="raise", over="raise"):
                corrupt(images, name, severity, seed=0)


@pytest.mark.parametrize(
    "name",
    [
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "contrast",
        "elastic_transform",
        "pixelate",
        "gaussian_blur",
    ],
)
def test_what_moves_or_averages_pixels_leaves_a_plain_image_alone(name: str) -> None:
    for value in (1, 77, 128, 254):
        plain = np.full((5, 3, 32, 24), value, dtype=np.uint8)
        for severity in SEVERITIES:
            assert np.array_equal(corrupt(plain, name, severity, seed=0), plain), (value, severity)


@pytest.mark.parametrize("name", sorted(set(ALL) - set(NOT_MONOTONE)))
def test_the_distance_from_the_clean_image_grows_with_the_severity(name: str) -> None:
    images = natural(60, 3, 32, 32)
    distances = [
        np.mean((corrupt(images, name, severity, seed=0).astype(float) - images) ** 2) for severity in SEVERITIES
    ]
    assert np.all(np.diff(distances) > 0), distances


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    script = """
import hashlib, torch
from test_corruptions import ALL, natural
from flatmin.data.corruptions.suite import corrupt
images = natural(64, 3, 32, 32)
for threads in (1, 2):
    torch.set_num_threads(threads)
    print(hashlib.sha256(b"".join(corrupt(images, name, 4, 0).tobytes() for name in ALL)).hexdigest())
"""
    import_path = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {import_path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "2", "PATH": ""},
    )
    one, two = done.stdout.split()
    assert one == two


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'gaussian_blur'") as error:
        load("gausian_blur")
    assert "spatter" in error.value.fix
    with pytest.raises(DataError, match="no corruption is called 'registry'"):
        load("registry")


@pytest.mark.parametrize("severity", [0, 6, -1, 2.0, "3"])
def test_another_severity_is_refused(severity: object) -> None:
    with pytest.raises(DataError, match=r"severity .* does not exist"):
        corrupted_chunks(natural(1, 3, 8, 8), "fog", severity, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (np.zeros((2, 3, 8, 8), dtype=np.float32), "are float32"),
        ([[0]], "are list"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"shape \(3, 8, 8\)"),
        (np.zeros((2, 8, 8, 3), dtype=np.uint8), r"shape \(2, 8, 8, 3\)"),
        (np.zeros((2, 3, 7, 8), dtype=np.uint8), "7 x 8 pixels"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        corrupt(images, "fog", 1, seed=0)  # type: ignore[arg-type]
