"""A mail that is signed as a whole is read: what it says stands inside the signature."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from connectors.mail.reading.enclosed import signed_content
from normalizer.parts import File, Text, plain_text
from tests.mail.reading.building import attachment, b64, mail, message_of, multipart, read, text

INSIDE = multipart("mixed", text("您好，合同见附件"), attachment(b"%PDF-1.4 words"))


def signed(content: bytes) -> bytes:
    """Return what Outlook makes of a mail that it signs without clear text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Li Lei")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    builder = builder.add_signer(certificate, key, hashes.SHA256())
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])


def unbounded(tag: int, *inside: bytes) -> bytes:
    """Return an element whose end is marked, as programs write that do not look ahead."""
    return bytes([tag, 0x80]) + b"".join(inside) + b"\0\0"


def element(tag: int, inside: bytes) -> bytes:
    return bytes([tag, len(inside)]) + inside


SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
DATA = bytes.fromhex("06092a864886f70d010701")


def in_pieces(content: bytes) -> bytes:
    pieces = [element(0x04, content[at : at + 100]) for at in range(0, len(content), 100)]
    about = unbounded(0x30, DATA, unbounded(0xA0, unbounded(0x24, *pieces)))
    whole = unbounded(0x30, element(0x02, b"\1"), element(0x31, b""), about, element(0x31, b""))
    return unbounded(0x30, SIGNED_DATA, unbounded(0xA0, whole))


@pytest.mark.parametrize("written", [signed, in_pieces])
@pytest.mark.parametrize("params", ["; smime-type=signed-data", ""])
def test_text_and_files_inside_a_signature_are_read(written: object, params: str) -> None:
    made = written(INSIDE)  # type: ignore[operator]
    head = f'Content-Type: application/pkcs7-mime{params}; name="smime.p7m"'
    raw = mail(b64(made), head, "Content-Transfer-Encoding: base64")
    draft = message_of(raw)
    assert draft.parts[0] == Text(text="您好，合同见附件")
    assert [part.media.name for part in draft.parts if isinstance(part, File)] == [
        "file.pdf",
        "smime.p7m",
    ]
    assert draft.data["signed"] is True
    assert "encrypted" not in draft.data
    files = {file.media.name: file.data for file in read(raw).files}
    assert files == {"file.pdf": b"%PDF-1.4 words", "smime.p7m": made}
    assert len({file.ref for file in read(raw).files}) == 2


def test_signatures_within_signatures_end() -> None:
    head = b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    made = INSIDE
    for _ in range(8):
        made = head + b64(in_pieces(made))
    draft = message_of(b"From: li@example.org\r\n" + made)
    assert "您好" not in plain_text(draft.parts)
    assert [part for part in draft.parts if isinstance(part, File)]


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_enclosed_or_not(garbage: bytes, at: int) -> None:
    whole = in_pieces(INSIDE)
    for data in (garbage, SIGNED_DATA + garbage, whole[:at], whole[:at] + garbage + whole[at:]):
        found = signed_content(data)
        assert found is None or isinstance(found, bytes)
