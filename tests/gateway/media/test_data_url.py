"""`data:` URLs as clients write them."""

import base64

import pytest

from services.common.errors import InvalidRequest, UnsupportedValue
from services.gateway.media.data_url import decode_url

DATA = bytes(range(256)) * 2 + b"!"
TEXT = base64.b64encode(DATA).decode()


def lines(width, end):
    return end.join(TEXT[start : start + width] for start in range(0, len(TEXT), width))


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"data:image/png;base64,{TEXT}", id="plain (guard)"),
        f"data:image/png;base64,{lines(76, chr(10))}",
        f"data:image/png;base64,{lines(64, chr(13) + chr(10))}",
        f"data:image/png;base64,{TEXT}\n",
        f"data:image/png;base64, {TEXT}",
        f"data:image/png;base64,{lines(10, chr(9))} \f",
        f"  data:image/png;base64,{TEXT}\r\n",
        f"DATA:image/png;base64,{TEXT}",
        f"Data:image/png;BASE64,{TEXT}",
        f"data:image/png; base64,{TEXT}",
        f"data:image/png;base64 ,{TEXT}",
        f"data:image/png;name=a.png;charset=utf-8;base64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"data:image/png;base64,{TEXT.rstrip('=')}",
        f"data:image/png;base64,{TEXT.rstrip('=')}\n",
        f"data:image/png;base64,{TEXT}#fragment",
        pytest.param(f"data:image/png;base64,{TEXT.replace('+', '%2B')}", id="percent (guard)"),
        f"data:image/png;base64,{TEXT.replace('=', '%3D')}%0A",
    ],
)
def test_base64_is_read_as_browsers_read_it(url):
    assert decode_url(url, "here") == DATA


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("YQ", b"a"),
        ("YQ==", b"a"),
        ("YWI", b"ab"),
        ("YWI=", b"ab"),
        ("YR==", b"a"),
        ("Y Q\n= =", b"a"),
    ],
)
def test_padding_may_be_missing_and_spare_bits_do_not_count(text, expected):
    assert decode_url(f"data:;base64,{text}", "here") == expected


@pytest.mark.parametrize(
    "text", ["Y", "YWJjZ", "YQ=", "YWI==", "Y=Q=", "YQ===", "=", "====", "YQ-_", "Y\u00e9==", "Y\x00Q="]
)
def test_what_is_no_base64_is_refused_by_its_field(text):
    """Guard: refused before, too."""
    with pytest.raises(InvalidRequest, match="base64") as caught:
        decode_url(f"data:;base64,{text}", "here")
    assert caught.value.param == "here"


@pytest.mark.parametrize(
    "head", ["data:text/plain", "data:text/plain;base64x", "data:base64", "data:;base64;x=y"]
)
def test_without_the_word_base64_at_its_end_the_body_is_percent_encoded(head):
    assert decode_url(f"{head},a%20b", "here") == b"a b"


@pytest.mark.parametrize(
    "url", ["", "data", "dat:,x", "image/png;base64,YQ==", "file:///etc/passwd", "ftp://a/b"]
)
def test_no_other_url_is_read(url):
    """A guard."""
    with pytest.raises(UnsupportedValue):
        decode_url(url, "here")
