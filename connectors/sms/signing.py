"""How the two domestic APIs are signed.

ACS3-HMAC-SHA256: Aliyun, "Request syntax and signature method V3". TC3-HMAC-SHA256: Tencent
Cloud, "Signature v3". Both vendors publish an example with its signature; the tests hold them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote


def acs3_headers(
    *,
    key_id: str,
    secret: str,
    host: str,
    action: str,
    version: str,
    query: str,
    at: datetime,
    nonce: str,
    body: bytes = b"",
    method: str = "POST",
) -> dict[str, str]:
    """Return the headers of a call to Aliyun. ``query`` is what :func:`acs3_query` made."""
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": _sha256(body),
        "x-acs-date": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n/\n{query}\n{lines}\n{names}\n{headers['x-acs-content-sha256']}"
    signed = _hmac(secret.encode(), f"ACS3-HMAC-SHA256\n{_sha256(canonical.encode())}").hex()
    headers["Authorization"] = (
        f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={signed}"
    )
    return headers


def acs3_query(params: Mapping[str, str]) -> str:
    """Return parameters sorted and escaped by RFC 3986: sent as they are signed."""
    pairs = sorted((_escaped(name), _escaped(value)) for name, value in params.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def tc3_headers(
    *,
    secret_id: str,
    secret_key: str,
    host: str,
    service: str,
    action: str,
    version: str,
    region: str,
    body: bytes,
    at: datetime,
) -> dict[str, str]:
    """Return the headers of a call to Tencent Cloud; content-type, host and action are signed."""
    content_type = "application/json; charset=utf-8"
    signed_headers = "content-type;host;x-tc-action"
    lines = f"content-type:{content_type}\nhost:{host}\nx-tc-action:{action.lower()}\n"
    canonical = f"POST\n/\n\n{lines}\n{signed_headers}\n{_sha256(body)}"
    day, timestamp = f"{at:%Y-%m-%d}", str(int(at.timestamp()))
    scope = f"{day}/{service}/tc3_request"
    text = f"TC3-HMAC-SHA256\n{timestamp}\n{scope}\n{_sha256(canonical.encode())}"
    key = _hmac(_hmac(_hmac(f"TC3{secret_key}".encode(), day), service), "tc3_request")
    return {
        "Authorization": (
            f"TC3-HMAC-SHA256 Credential={secret_id}/{scope},"
            f" SignedHeaders={signed_headers}, Signature={_hmac(key, text).hex()}"
        ),
        "Content-Type": content_type,
        "Host": host,
        "X-TC-Action": action,
        "X-TC-Version": version,
        "X-TC-Region": region,
        "X-TC-Timestamp": timestamp,
    }


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
