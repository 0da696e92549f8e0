"""From an image's spelling to its pads."""

import dataclasses
import hashlib
import io
from unittest import mock
from urllib.parse import quote_from_bytes

import pytest
from PIL import Image, UnidentifiedImageError

from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.gateway.media.images import ImageLimits, ImageSource, load_images
from services.gateway.media.request_media import MediaLimits, load_media
from services.gateway.media.videos import VideoBounds
from tests.gateway.pictures import data_url, picture

LIMITS = ImageLimits(count=2, num_bytes=1 << 20, pixels=1_000_000)


def load(source, limits=LIMITS):
    return load_images((ImageSource(source, "here"),), limits, MEDIA)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_each_format_gives_its_size_and_hash(kind):
    data = picture(448, 448, kind)
    image = load(data)
    assert image.num_tokens == 256
    assert image.content_hash == hashlib.sha256(data).digest()


def test_a_url_and_the_bytes_it_holds_are_the_same_image():
    data = picture()
    assert load(data_url(data)) == load(data)
    assert load(f"data:image/png,{quote_from_bytes(data)}") == load(data)


def turned(kind: str) -> bytes:
    """A picture of 392 x 28 pixels whose tag says that it stands upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (392, 28)).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pads_are_counted_of_the_turned_image(kind):
    grid = mock.Mock(wraps=MEDIA.image_grid)
    for limits in (LIMITS, dataclasses.replace(LIMITS, preprocess="parity")):
        source = ImageSource(turned(kind), "here")
        load_images((source,), limits, dataclasses.replace(MEDIA, image_grid=grid))
    assert [call.args for call in grid.call_args_list] == [(28, 392), (392, 28)]


def test_an_embedding_for_parity_has_a_name_of_its_own():
    standard = load(picture())
    parity = load(picture(), dataclasses.replace(LIMITS, preprocess="parity"))
    assert parity.content_hash != standard.content_hash
    assert len(parity.content_hash) == 32


def test_the_pixels_of_a_picture_are_not_decoded_for_its_tags():
    """An image of a PNG without tags, cut where its pixels begin."""
    data = picture()
    assert load(data[: data.index(b"IDAT") + 4]).num_tokens == load(data).num_tokens


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"plain text",
        picture()[:20],
        picture(kind="JPEG")[:12],
        picture(kind="GIF")[:8],
        picture(kind="BMP")[:20],
        picture(kind="TIFF"),
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        "data:image/png;base64,????",
        "data:image/png;base64",
        "data:image/png;base64,aGVsbG8=",
        "data:,",
    ],
)
def test_what_is_no_image_is_refused_by_its_field(source):
    with pytest.raises(InvalidRequest) as caught:
        load(source)
    assert caught.value.param == "here"


@pytest.mark.parametrize(
    "error", [OSError, SyntaxError, Image.DecompressionBombError, UnidentifiedImageError]
)
def test_no_text_of_the_library_is_handed_on(error, monkeypatch):
    monkeypatch.setattr(Image, "open", mock.Mock(side_effect=error("<_io.BytesIO object at 0x7f01>")))
    with pytest.raises(InvalidRequest) as caught:
        load(picture())
    assert "0x7f01" not in caught.value.message


@pytest.mark.parametrize("url", ["https://example.org/a.png", "file:///etc/passwd", "a.png", ""])
def test_nothing_is_ever_fetched(url):
    with pytest.raises(UnsupportedValue) as caught:
        load(url)
    assert caught.value.param == "here"


def test_bytes_pixels_and_count_are_bounded():
    data = picture(100, 100)
    with pytest.raises(InvalidRequest, match="bytes"):
        load(data, ImageLimits(1, len(data) - 1, 10_000))
    with pytest.raises(InvalidRequest, match="pixels"):
        load(data, ImageLimits(1, len(data), 9_999))
    assert load(data, ImageLimits(1, len(data), 10_000)).num_tokens == 16
    sources = tuple(ImageSource(data, f"field{i}") for i in range(3))
    videos = VideoBounds(1, 1, VideoLimits(1, 1, 1.0))
    with pytest.raises(InvalidRequest) as caught:
        load_media(sources, MediaLimits(LIMITS, videos), MEDIA)
    assert caught.value.param == "field2"


def test_a_header_that_claims_a_huge_image_is_refused_without_decoding_it():
    header = bytearray(picture(kind="BMP"))
    header[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(InvalidRequest):
        load(bytes(header), ImageLimits(1, 1 << 20, 50_000_000))
