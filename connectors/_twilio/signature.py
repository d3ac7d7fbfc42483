"""Is this request Twilio's? X-Twilio-Signature over the public URL and the form.

The signed text and its HMAC come from Twilio's own package, which knows the order of repeated
names. What it does badly is done here, because it lets a forger or a proxy in the way:

- it compares by hand, and with one token: here in constant time, with all tokens of a rotation;
- it takes ``https://user:pass@host:8443`` and IPv6 hosts apart wrongly when it tries a port;
- it checks the hash of a body only if the body is handed over as a text, and raises for bytes,
  for a missing header and for what ``parse_qs`` returns.

Nothing in a signature says when it was made, so a replay is believed: what it says has to be
known by its ids. I-Twilio-Idempotency-Token is not signed, so it is nobody's key either.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl

import msgspec
from multidict import MultiDict
from twilio.request_validator import HMAC_SHA1, HMAC_SHA256, RequestValidator

from hub import Refused, Request, Secret, Verified

SIGNATURE = "x-twilio-signature"
SETTINGS = "x-twilio-webhooks-signature-settings"
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 500  # Twilio sends fewer than a hundred, and may add some at any time
_DEFAULT_PORTS = {"https": "443", "http": "80"}
_ALGORITHMS = (HMAC_SHA1, HMAC_SHA256)


class SigningKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What Twilio may have signed with.

    ``tokens`` are AuthTokens, two while one is being replaced. ``shared`` are secrets of shared
    keys by their ids, for webhooks that name one in X-Twilio-Webhooks-Signature-Settings.
    """

    tokens: Sequence[Secret] = ()
    shared: Mapping[str, Secret] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to sign with: an empty token would be everybody's."""
        return any(each.reveal() for each in (*self.tokens, *self.shared.values()))


def verified(request: Request, keys: SigningKeys) -> Verified:
    """Return the request as believed; its payload is the form, of a GET the query.

    Raises :class:`Refused` with a word on what was wrong, whatever a stranger sends.
    """
    given = request.headers.get(SIGNATURE, "")
    if not given:
        raise Refused("no_signature")
    fields = _signed_fields(request)
    secrets, algorithm = _secrets(request.headers.get(SETTINGS, ""), keys)
    genuine = False
    for secret in secrets:
        if not secret.reveal():
            continue  # anybody can sign with nothing
        for url in url_variants(request.url):
            made = signature(secret.reveal(), url, fields, algorithm)
            genuine |= hmac.compare_digest(made.encode(), _bytes(given))
    if not genuine:
        raise Refused("signature")
    return _believed(request)


def unchecked(request: Request) -> Verified:
    """Return a request of an account that says ``insecure = true`` and has no key at all."""
    return _believed(request)


def signature(
    secret: str, url: str, fields: Iterable[tuple[str, str]], algorithm: str = HMAC_SHA1
) -> str:
    """Return the signature of a URL and a form's fields; for tests and samples as well.

    Raises :class:`Refused` for a URL that cannot have been signed.
    """
    try:
        made = RequestValidator(secret).compute_signature(url, MultiDict(fields), algorithm)
    except UnicodeEncodeError as error:
        raise Refused("url") from error
    return str(made)


def url_variants(url: str) -> tuple[str, ...]:
    """Return the URL with and without its port: Twilio signs either, whatever was configured.

    The text is left alone apart from the port: order and escaping of a query are signed.
    """
    scheme, _, rest = url.partition("://")
    ends = [at for at in map(rest.find, "/?#") if at >= 0]
    netloc, path = rest[: min(ends, default=len(rest))], rest[min(ends, default=len(rest)) :]
    user, at, host_port = netloc.rpartition("@")
    host, colon, port = host_port.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = host_port, ""  # no port; of an IPv6 host the colons are inside brackets
    known = port or _DEFAULT_PORTS.get(scheme, "")
    without = f"{scheme}://{user}{at}{host}{path}"
    return (without, f"{scheme}://{user}{at}{host}:{known}{path}") if known else (without,)


def _secrets(settings: str, keys: SigningKeys) -> tuple[Sequence[Secret], str]:
    """Return what may have signed, and how. Without the header it was the AuthToken, by SHA-1."""
    named = dict(part.strip().partition("=")[::2] for part in settings.split(",") if part.strip())
    if not named:
        return keys.tokens, HMAC_SHA1
    algorithm = named.get("algorithm", "")
    secret = keys.shared.get(named.get("key", ""))
    if secret is None or algorithm not in _ALGORITHMS:
        raise Refused("signature_settings")
    return (secret,), algorithm


def _signed_fields(request: Request) -> list[tuple[str, str]]:
    """Return the fields that are signed beside the URL; a body without a hash is a form."""
    if request.method in ("GET", "HEAD"):
        return []
    hashes = [value for name, value in _pairs(request.query_string) if name == "bodySHA256"]
    if hashes:
        made = hashlib.sha256(request.body).hexdigest()
        if not hmac.compare_digest(made.encode(), _bytes(hashes[-1].lower())):
            raise Refused("body_hash")
    if content_type(request) == FORM:
        try:
            return _pairs(request.body.decode())
        except UnicodeDecodeError as error:
            raise Refused("form") from error
    if request.body and not hashes:
        raise Refused("unsigned_body")
    return []


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return names and values, blanks kept: Twilio signs empty fields as well."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Refused("form") from error


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _believed(request: Request) -> Verified:
    if request.method in ("GET", "HEAD"):
        return request.verified(request.query_string.encode(errors="replace"))
    return request.verified()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
