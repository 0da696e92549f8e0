"""Image files to patches."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from unittest import mock

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from services.common.errors import InvalidRequest
from services.common.media.image_file import shown_size
from services.families.kimi.family import MEDIA
from services.families.kimi.media import image_grid
from services.vision.preprocess import decode_image, image_patches, preprocess_image

LIMIT = 10_000_000


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def formula_image(width: int, height: int, mode: str, channels: list[str]) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    planes = [np.asarray(eval(text, {}, {"x": x, "y": y})).astype(np.uint8) for text in channels]
    if mode == "L":
        return Image.fromarray(planes[0])
    return Image.fromarray(np.stack(planes, axis=-1), mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels it does not have."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_the_golden_images_give_exactly_the_golden_patches(shared_dir, fidelity):
    lines = (shared_dir / "data/golden/image_preprocess.jsonl").read_text().splitlines()
    cases = [case for case in map(json.loads, lines) if case["kind"] == "image_pixels"]
    assert len(cases) >= 7
    for case in cases:
        given, expected = case["input"], case["expected"]
        image = formula_image(given["width"], given["height"], given["mode"], given["channels"])
        patches = preprocess_image(encoded(image, "PNG"), LIMIT, MEDIA, "parity")
        assert list(patches.pixels.shape) == expected["shape"], case["id"]
        assert patches.pixels.dtype == np.float32
        for patch, channel, row, column, value in expected["samples"]:
            assert patches.pixels[patch, channel, row, column] == np.float32(value), case["id"]
        digest = hashlib.sha256(patches.pixels.astype("<f4").tobytes()).hexdigest()
        assert digest == expected["sha256_f32le"], case["id"]
    fidelity.equal("Image pixels", "patches of whole images", "golden vectors", len(cases))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_parity_drops_alpha_and_composes_nothing(kind):
    image = Image.new("RGBA", (28, 28), (200, 100, 50, 0))
    opaque = Image.new("RGB", (28, 28), (200, 100, 50))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    expected = preprocess_image(encoded(opaque, "PNG"), LIMIT, MEDIA).pixels
    assert np.array_equal(
        preprocess_image(encoded(image, kind, **options), LIMIT, MEDIA, "parity").pixels, expected
    )


def transparent(mode: str) -> Image.Image:
    """Black, and transparent but for a dot in its middle, whose alpha is 51 of 255 where there are shades."""
    image = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    image.putpixel((14, 14), (0, 0, 0, 51))
    if mode == "RGBA":
        return image
    if mode == "LA":
        return image.convert("LA")
    palette = Image.new("P", (28, 28), 0)
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.putpixel((14, 14), 1)
    return palette


@pytest.mark.parametrize(
    ("mode", "kind", "options", "dot"),
    [
        ("RGBA", "PNG", {}, 204),
        ("RGBA", "WEBP", {"lossless": True}, 204),
        ("LA", "PNG", {}, 204),
        ("P", "PNG", {"transparency": bytes([0, 51])}, 204),
        ("P", "PNG", {"transparency": 0}, 0),
        ("P", "GIF", {"transparency": 0, "optimize": False}, 0),
    ],
)
def test_what_is_transparent_shows_white(mode, kind, options, dot):
    image = decode_image(encoded(transparent(mode), kind, **options), LIMIT)
    assert image.getpixel((3, 3)) == (255, 255, 255)
    assert image.getpixel((14, 14)) == (dot, dot, dot)


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (7, 7, 7)), ("I;16", 7)])
def test_one_transparent_level_of_an_image_without_alpha_shows_white(mode, clear):
    image = Image.new(mode, (28, 28), clear)
    image.putpixel((14, 14), (9, 9, 9) if mode == "RGB" else 9)
    shown = decode_image(encoded(image, "PNG", transparency=clear), LIMIT)
    assert shown.getpixel((3, 3)) == (255, 255, 255)
    assert shown.getpixel((14, 14))[0] < 10


def test_16_bit_grey_is_scaled_to_8_bits():
    levels = np.array([[0, 128, 129, 257, 32_768, 65_278, 65_279, 65_535]], dtype=np.uint16)
    data = encoded(Image.fromarray(levels), "PNG")
    shown = [pixel[0] for pixel in np.asarray(decode_image(data, LIMIT))[0]]
    assert shown == [0, 0, 1, 1, 128, 254, 254, 255]


def test_parity_cuts_16_bit_grey_off_at_255():
    data = encoded(Image.fromarray(np.full((4, 4), 32_768, dtype=np.uint16)), "PNG")
    assert decode_image(data, LIMIT, "parity").getpixel((1, 1)) == (255, 255, 255)


def test_padding_is_black_at_the_right_and_bottom():
    image = decode_image(encoded(Image.new("RGB", (15, 29), (255, 255, 255)), "PNG"), LIMIT)
    pixels = image_patches(image, image_grid(15, 29))
    whole = pixels.reshape(4, 2, 3, 14, 14).transpose(2, 0, 3, 1, 4).reshape(3, 56, 28)
    assert (whole[:, :29, :15] == 1).all()
    assert (whole[:, 29:] == -1).all()
    assert (whole[:, :, 15:] == -1).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (28, 28), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
    assert decode_image(data, LIMIT).getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_each_promised_format_is_read(kind):
    data = encoded(Image.new("RGB", (30, 17), (120, 120, 120)), kind)
    patches = preprocess_image(data, LIMIT, MEDIA)
    assert patches.pixels.shape == (8, 3, 14, 14)
    assert patches.grid.num_tokens == 2


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("I;16", "PNG"),
        ("RGBA", "WEBP"),
        ("CMYK", "JPEG"),
    ],
)
def test_every_colour_mode_becomes_rgb(mode, kind):
    assert decode_image(encoded(Image.new(mode, (28, 28)), kind), LIMIT).mode == "RGB"


def turned(orientation: object, kind: str = "PNG") -> bytes:
    """A wide image, red at the left and blue at the right, that carries an orientation tag."""
    image = Image.new("RGB", (56, 28), "red")
    image.paste((0, 0, 255), (28, 0, 56, 28))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "size", "red"),
    [
        (1, (56, 28), "left"),
        (2, (56, 28), "right"),
        (3, (56, 28), "right"),
        (4, (56, 28), "left"),
        (5, (28, 56), "top"),
        (6, (28, 56), "top"),
        (7, (28, 56), "bottom"),
        (8, (28, 56), "bottom"),
    ],
)
def test_an_image_is_turned_as_its_orientation_tag_says(kind, orientation, size, red):
    image = decode_image(turned(orientation, kind), LIMIT)
    assert image.size == size
    width, height = size
    at_red = {"left": (5, 5), "right": (width - 5, 5), "top": (5, 5), "bottom": (5, height - 5)}[red]
    red_level, _, blue_level = image.getpixel(at_red)
    assert red_level > 200
    assert blue_level < 60


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(orientation):
    assert decode_image(turned(orientation), LIMIT).size == (56, 28)


def test_damaged_tags_turn_nothing():
    data = encoded(Image.new("RGB", (56, 28)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode_image(data, LIMIT).size == (56, 28)


def test_parity_leaves_an_orientation_tag_alone():
    grid = preprocess_image(turned(6, "JPEG"), LIMIT, MEDIA, "parity").grid
    assert (grid.grid_h, grid.grid_w) == (2, 4)


def test_standard_and_parity_agree_where_there_is_nothing_to_turn_or_compose():
    data = encoded(Image.effect_noise((50, 40), 60).convert("RGB"), "PNG")
    standard, parity = (preprocess_image(data, LIMIT, MEDIA, each).pixels for each in ("standard", "parity"))
    assert np.array_equal(standard, parity)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("preprocess", ["standard", "parity"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_header_tells_the_size_that_decoding_gives(kind, preprocess, orientation):
    data = turned(orientation, kind)
    with Image.open(io.BytesIO(data)) as opened:
        size = shown_size(opened, preprocess)
    assert decode_image(data, LIMIT, preprocess).size == size


def test_a_file_cut_short_is_refused():
    data = encoded(Image.effect_noise((100, 100), 50), "PNG")
    for length in (20, 60, len(data) // 2):
        with pytest.raises(InvalidRequest, match="image") as caught:
            preprocess_image(data[:length], LIMIT, MEDIA)
        assert caught.value.param == "image"


@pytest.mark.parametrize("error", [OSError, ValueError, Image.DecompressionBombError, UnidentifiedImageError])
def test_no_text_of_the_library_is_handed_on(error, monkeypatch):
    monkeypatch.setattr(Image, "open", mock.Mock(side_effect=error("<_io.BytesIO object at 0x7f01>")))
    with pytest.raises(InvalidRequest) as caught:
        decode_image(b"a file", 100)
    assert "0x7f01" not in caught.value.message


def test_flipped_bytes_are_refused_or_decoded_but_never_another_error():
    data = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "PNG")
    random = np.random.default_rng(7)
    for _ in range(200):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 5):
            broken[place] ^= int(random.integers(1, 256))
        try:
            preprocess_image(bytes(broken), LIMIT, MEDIA)
        except InvalidRequest:
            continue


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg></svg>"])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(InvalidRequest, match="image"):
        preprocess_image(data, LIMIT, MEDIA)


@pytest.mark.parametrize(("width", "height"), [(4000, 4000), (60_000, 60_000), (70_000, 1)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(width, height):
    with pytest.raises(InvalidRequest, match="pixels"):
        preprocess_image(png_header(width, height), LIMIT, MEDIA)


def test_the_pixel_limit_is_inclusive():
    data = encoded(Image.new("RGB", (100, 100)), "PNG")
    assert preprocess_image(data, 10_000, MEDIA).grid.num_tokens > 0
    with pytest.raises(InvalidRequest, match="too large"):
        preprocess_image(data, 9_999, MEDIA)


def test_an_unlisted_format_is_refused_though_the_library_could_read_it():
    with pytest.raises(InvalidRequest, match="supported format"):
        preprocess_image(encoded(Image.new("RGB", (20, 20)), "TIFF"), LIMIT, MEDIA)
