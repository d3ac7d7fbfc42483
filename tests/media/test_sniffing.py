"""What bytes are, whatever their name or sender says. Nothing is faked."""

from __future__ import annotations

import io
import time
import zipfile

import pytest
from PIL import Image

from hub.media.sniffing import ENDS_BYTES, second_format, sniff, sniff_file
from tests.media.pictures import encoded, photo, with_archive

SAMPLES = [
    (photo(), "image/jpeg"),
    (encoded(Image.new("RGB", (9, 9)), "PNG"), "image/png"),
    (encoded(Image.new("P", (9, 9)), "GIF"), "image/gif"),
    (encoded(Image.new("RGB", (9, 9)), "WEBP"), "image/webp"),
    (encoded(Image.new("RGB", (9, 9)), "BMP"), "image/bmp"),
    (b"%PDF-1.7\n", "application/pdf"),
    (b"MZ\x90\0" + b"\0" * 60, "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF\x02\x01\x01" + b"\0" * 60, "application/x-elf"),
    (b"#!/bin/sh\nrm -rf /", "text/x-shellscript"),
    (b"#!AMR\n\x3c", "audio/amr"),
    (b"<!DOCTYPE html><p>", "text/html"),
    (b"\xef\xbb\xbf \n<!-- hi --><HTML>", "text/html"),
    (b"<script>alert(1)</script>", "text/html"),
    (b'<?xml version="1.0"?>\n<!-- x --><svg xmlns="y">', "image/svg+xml"),
    ("你好".encode(), "text/plain"),
    (b"a,b\n1,2\n", "text/plain"),
    (b"\x00\x01\x02\x03", "application/octet-stream"),
    ("中".encode("gb18030") * 9, "application/octet-stream"),
]


@pytest.mark.parametrize(("data", "mime"), SAMPLES)
def test_a_type_is_told_by_the_bytes(data: bytes, mime: str) -> None:
    assert sniff(data) == mime
    assert sniff_file(io.BytesIO(data)) == mime


@pytest.mark.parametrize(
    ("data", "declared", "mime"),
    [
        (b"a,b\n1,2\n", "text/csv", "text/csv"),
        (b"a,b\n1,2\n", "text/html", "text/plain"),
        (b"a,b\n1,2\n", "image/png", "text/plain"),
        (photo(), "application/pdf", "image/jpeg"),
        (b"\0\1", "video/mp4", "application/octet-stream"),
    ],
)
def test_a_claim_only_makes_it_more_exact(data: bytes, declared: str, mime: str) -> None:
    assert sniff_file(io.BytesIO(data), declared) == mime


def test_an_office_document_is_what_it_says_and_an_archive_is_none() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert sniff_file(out, word) == word
    assert not sniff_file(out, "image/png").startswith("image/")


def test_a_text_that_is_longer_than_what_is_read_is_a_text() -> None:
    for shift in range(3):
        data = b"x" * shift + "好".encode() * (3 * ENDS_BYTES // 3)
        assert sniff_file(io.BytesIO(data)) == "text/plain"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (photo(), ""),
        (with_archive(photo()), "an archive"),
        (photo()[:20] + b"%PDF-1.4" + photo()[20:], "a PDF"),
        (photo() + b"<script>alert(1)</script>", "a page or a program"),
        (photo() + b"<?php system($_GET['c']); ?>", "a page or a program"),
    ],
)
def test_a_second_format_in_a_picture_is_seen(data: bytes, what: str) -> None:
    assert second_format(io.BytesIO(data)) == what


def test_no_file_makes_sniffing_slow() -> None:
    began = time.monotonic()
    for data in (b"<!-- -->" * 5000, b"<?xml " * 5000, b" " * 60_000, b"<!doctype svg" * 4000):
        sniff(data)
        second_format(io.BytesIO(data))
    assert time.monotonic() - began < 2.0
