"""From encoded images of any size and mode to equal squares of unsigned bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flatmin.data.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is read, by content and not by file name. Pillow knows more, but some of it starts other programs (EPS) or has
no mark by which a damaged file could be told from a right one (TGA)."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""

_IMAGES_AT_A_TIME = 256
_NAMED = 10
_WHITE_16_BIT = 65535


@dataclass(frozen=True)
class Form:
    """What every image becomes: ``channels`` (1: grey, 3: red, green, blue) x ``size`` x ``size``.

    Raises:
        DataError: ``size`` is less than 1, or ``channels`` is neither 1 nor 3.
    """

    size: int
    channels: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.channels not in (1, 3):
            raise DataError(
                f"images of {self.channels} channels and {self.size} x {self.size} pixels cannot be made",
                "Set size to 1 or more, and channels to 1 (grey) or 3 (colour).",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, self.size, self.size)


@dataclass(frozen=True)
class Encoded:
    """An image that waits to be decoded.

    Attributes:
        name: What an error message calls it.
        content: Its file, its bytes, or None where there should have been some.
        target: Uint8 [c, h, w], a view into the array that the result is written to.
    """

    name: str
    content: Path | bytes | None
    target: NDArray[np.uint8]


class _RefusedError(Exception):
    """An image is not used; the text says why."""


def decode_all(images: Iterable[Encoded], form: Form, *, total: int, where: str, progress: Progress | None) -> None:
    """Decode every image into its target, on a few threads; the result does not depend on them.

    ``images`` is consumed in parts, so that what it yields need not be in memory all at once.

    Args:
        images: The images.
        form: What they become.
        total: How many there are.
        where: What they are part of, for the error message.
        progress: Called now and then.

    Raises:
        DataError: Some are no images that can be read. Up to ten are named.
    """
    Image.init()  # here, and not on several threads at once
    problems: list[str] = []
    done = 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for part in _parts(images):
            problems += filter(None, pool.map(partial(_decode_into, form=form), part))
            done += len(part)
            if progress is not None:
                progress(done, total)
    if problems:
        raise DataError(
            f"{len(problems)} of {total} images of {where} cannot be used:\n{listed(problems)}",
            "Repair, replace or remove them. Hidden files, Thumbs.db and desktop.ini may stay: they are passed over.",
        )


def listed(lines: list[str]) -> str:
    """Return up to ten lines, indented, and the number of those that are left out."""
    left_out = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return "\n".join(f"  {line}" for line in [*lines[:_NAMED], *left_out])


def is_html(start: bytes) -> bool:
    """Say whether a file that starts like this is a web page: what many a failed download leaves under another name."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head"))


def decode(content: Path | bytes, form: Form) -> NDArray[np.uint8]:
    """Return one image, uint8 [c, h, w], as `form` says.

    In this order: the first frame; turned upright as its EXIF orientation says; transparent parts laid over white;
    16-bit values v rounded to v / 257; grey by the luma of ITU-R 601, or colour; the central square, scaled by
    Pillow's antialiased bicubic filter. Colour profiles are not applied.

    The square has the shorter side of the image. So the framing is that of scaling the shorter side and then cropping
    the centre, without the rounding in between, and a very long image costs no more memory than itself.

    Raises:
        Exception: Damaged images raise almost any; `decode_all` turns them into one error.
    """
    with Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
        _refuse_bomb(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        plain = _without_transparency(_in_8_bits(image)).convert("L" if form.channels == 1 else "RGB")
    side = min(plain.size)
    left, top = (plain.width - side) / 2, (plain.height - side) / 2
    square = plain.resize((form.size, form.size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(square).reshape(form.size, form.size, form.channels).transpose(2, 0, 1)


def _refuse_bomb(image: Image.Image) -> None:
    """Refuse what Pillow only warns of: its own error comes at twice this limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _RefusedError(f"{image.width} x {image.height} pixels: more than the {limit} that are safe to unpack")


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return an image of more than 8 bits a pixel with 8, all others as they are.

    Integers are 16-bit values, wherever Pillow keeps them. Colour of 16 bits has been cut to 8 by Pillow already.
    """
    if image.mode == "F":
        raise _RefusedError("floating-point pixels, of which it is not known what is white; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _WHITE_16_BIT:
        raise _RefusedError("integer pixels outside of 0..65535; save it with 8 or 16 bits")
    return Image.fromarray(((255 * values + _WHITE_16_BIT // 2) // _WHITE_16_BIT).astype(np.uint8))


def _without_transparency(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)


def _decode_into(image: Encoded, form: Form) -> str | None:
    """Decode an image into its target; return what was wrong with it, if anything."""
    if image.content is None:
        return f"{image.name}: there is none (null)"
    try:
        image.target[...] = decode(image.content, form)
    except Exception as error:  # damaged images raise almost any exception
        return f"{image.name}: {_reason(image.content, error)}"
    return None


def _reason(content: Path | bytes, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return _what_else(content)
    if isinstance(error, (_RefusedError, Image.DecompressionBombError)):
        return str(error)
    return f"damaged or cut short ({str(error) or repr(error)})"


def _what_else(content: Path | bytes) -> str:
    """Say what a file is that is no image."""
    if isinstance(content, Path):
        with content.open("rb") as stream:
            start = stream.read(1024)
    else:
        start = content[:1024]
    if not start:
        return "it is empty"
    if is_html(start):
        return "a web page (HTML) that was saved as an image"
    return f"no image in a format that is read ({', '.join(FORMATS)}), or damaged from the start"


def _parts(images: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    rest = iter(images)
    while part := list(islice(rest, _IMAGES_AT_A_TIME)):
        yield part
