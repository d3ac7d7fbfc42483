"""Files and links: whatever a stranger calls them, they are safe to show, save and follow."""

from __future__ import annotations

import pytest
from hypothesis import given

from normalizer.media import clean_media, file_name, mime_type, safe_url
from normalizer.parts import Media
from tests.normalizer import strategies


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("发票 2023.pdf", "发票 2023.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\li\\发票.pdf", "发票.pdf"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/", "file"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        (" . ", "file"),
        ("\x00\x01", "file"),
        ("folder/", "file"),
        (".htaccess", "htaccess"),
        ("a.txt ", "a.txt"),
        ("a.exe.", "a.exe"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\r\nContent-Type: text/html", "html"),
        ("a\r\nb.txt", "a b.txt"),
        ('a<b>"c|d?e*f:g.txt', "a_b__c_d_e_f_g.txt"),
        ("re\u0301sume\u0301.doc", "résumé.doc"),
        ("\ud800.png", "\ufffd.png"),
        ("👨\u200d👩\u200d👧.png", "👨\u200d👩\u200d👧.png"),
    ],
)
def test_a_file_name_is_one_safe_name(name: str, safe: str) -> None:
    assert file_name(name) == safe
    assert file_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("发" * 100 + ".pdf", "发发", "发.pdf"),
        ("a" * 300 + ".tar.gz", "aaa", "a.gz"),
        ("a." + "b" * 300, "a.bbb", "bbb"),
        ("👨\u200d👩\u200d👧" * 40 + ".png", "👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧.png"),
        ("x" * 195 + " .pdf" + "y" * 4000, "xxx", "x .pdf"),
        ("a" * 9000 + ".pdf", "aaa", "a"),
        ("." * 300 + "pdf", "pdf", "pdf"),
        ("a" * 190 + "." * 30 + ".pdf", "aaa", "a.pdf"),
    ],
)
def test_a_long_file_name_keeps_its_suffix_in_200_bytes(name: str, start: str, end: str) -> None:
    safe = file_name(name)
    assert len(safe.encode()) <= 200
    assert safe.startswith(start)
    assert safe.endswith(end)
    assert file_name(safe) == safe


@given(strategies.text)
def test_any_file_name_is_safe(name: str) -> None:
    safe = file_name(name)
    assert 0 < len(safe.encode()) <= 200
    assert not set(safe) & set('/\\<>:"|?*\n\r\t\x00\u202e')
    assert safe not in (".", "..")
    assert file_name(safe) == safe


@pytest.mark.parametrize(
    ("text", "mime"),
    [
        ("image/jpeg", "image/jpeg"),
        (" Image/JPEG ", "image/jpeg"),
        ("text/plain; charset=gb18030", "text/plain"),
        ("application/vnd.ms-excel.sheet+xml", "application/vnd.ms-excel.sheet+xml"),
        ("audio/amr", "audio/amr"),
        ("", "application/octet-stream"),
        ("jpeg", "application/octet-stream"),
        ("image/", "application/octet-stream"),
        ("image/jpeg/x", "application/octet-stream"),
        ("text/html\r\nX: y", "application/octet-stream"),
        ("图片/jpeg", "application/octet-stream"),
        ("a/" + "b" * 200, "application/octet-stream"),
    ],
)
def test_a_mime_type_is_lower_case_or_unknown(text: str, mime: str) -> None:
    assert mime_type(text) == mime


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/订单?id=1#x",
        "HTTP://example.com",
        "http://192.0.2.1:8080/a%20b",
        "mailto:li@example.com?subject=x",
        "tel:+8613800138000",
        "https://[2001:db8::1]/",
    ],
)
def test_a_link_to_the_web_a_mailbox_or_a_phone_is_kept(url: str) -> None:
    assert safe_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "\x01javascript:alert(1)",
        "\u202ejavascript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://example.com",
        "blob:https://example.com/x",
        "weixin://dl/chat",
        "//example.com/x",
        "/relative",
        "example.com",
        "https:example.com",
        "https://",
        "https:///x",
        "https:\\\\example.com",
        "https://exa\\mple.com",
        'https://example.com/"onmouseover=x',
        "https://example.com/<script>",
        "mailto:",
        "https://example.com/" + "a" * 5000,
        "https://example.com/" + "a " * 2000,
    ],
)
def test_every_other_link_is_none(url: str) -> None:
    assert safe_url(url) == ""


def test_what_a_browser_takes_out_of_a_link_is_taken_out() -> None:
    assert safe_url(" https://example.com/a b\n") == "https://example.com/a%20b"
    assert safe_url("ht\ntps://exam\tple.com/") == "https://example.com/"


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        (Media(size=-1, width=-5, height=0, duration_s=-0.1), Media()),
        (Media(size=0, width=1, height=1, duration_s=0.0),) * 2,
        (Media(size=2**63, width=2**70), Media()),
        (Media(duration_s=float("nan")), Media()),
        (Media(duration_s=float("inf")), Media()),
        (Media(mime="IMAGE/PNG", name="../a.png"), Media(mime="image/png", name="a.png")),
        (Media(mime="x", name="\x00"), Media(mime="application/octet-stream", name="file")),
        (Media(sha256="A" * 64), Media(sha256="a" * 64)),
        (Media(sha256="a" * 63), Media()),
        (Media(sha256=""), Media()),
        (Media(vendor_ref="m\ud800", blob="b"), Media(vendor_ref="m\\ud800", blob="b")),
    ],
)
def test_impossible_claims_about_a_file_are_dropped(claimed: Media, kept: Media) -> None:
    assert clean_media(claimed) == kept


def test_media_in_order_is_handed_on_as_it_is() -> None:
    media = Media(mime="audio/amr", size=12, name="voice.amr", vendor_ref="m-7Qx", duration_s=1.5)
    assert clean_media(media) is media
