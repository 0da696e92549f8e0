"""From an image's spelling to its pads."""

import hashlib
from urllib.parse import quote_from_bytes

import pytest

from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.video_file import VideoLimits
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
