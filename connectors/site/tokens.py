"""The tokens of the site channel, made and checked without I/O.

===============  ==================================================================================
visitor token    who an anonymous visitor is, 180 days; random, with a tag by which the hub knows
                 its own tokens before anything is stored about the visitor
access token     one session, 15 minutes (JWT, signed by the hub)
identity token   a logged-in user, signed by the *site's* server (JWT, at most one hour)
user hash        the legacy way to name a user; permanent and without data
cursor           a position of a visitor's stream
link             an upload or a download, 10 minutes
===============  ==================================================================================

Times are compared with the moment that the caller gives, never with the machine's clock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
from jwt.types import Options

from connectors.site.errors import SiteError
from connectors.site.settings import MIN_HMAC_BYTES, IdentityKey
from hub import Secret

ACCESS_LIFE = timedelta(minutes=15)
VISITOR_LIFE = timedelta(days=180)
LINK_LIFE = timedelta(minutes=10)
CURSOR_LIFE = timedelta(hours=24)
IDENTITY_LIFE_S = 3600
LEEWAY_S = 60
AUDIENCE = "omniline"
MAX_SUBJECT_CHARS = 128
MAX_ATTRS_BYTES = 4096
_TAG_BYTES = 16


def uuid7(now: datetime) -> str:
    """Return a UUID version 7 (RFC 9562): its first 48 bits are ``now`` in milliseconds."""
    value = int(now.timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Undo :func:`encode`. Raises ``ValueError`` for anything else."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
    if encode(data) != text:  # the last character has bits that do not count
        raise ValueError("not the one base64url of its bytes")
    return data


def tag(secret: bytes, *parts: object) -> bytes:
    """Return a MAC over parts of any number and length."""
    body = msgspec.json.encode([str(part) for part in parts])
    return hmac.new(secret, body, hashlib.sha256).digest()[:_TAG_BYTES]


def _same(expected: str, shown: str) -> bool:
    """Compare in constant time; what is shown may be any text at all."""
    return hmac.compare_digest(expected.encode(), shown.encode("utf-8", "surrogatepass"))


# --- anonymous visitors --------------------------------------------------------------------------


class VisitorToken(msgspec.Struct, frozen=True, kw_only=True):
    """A visitor token that is ours; ``digest`` is all that is ever stored of it."""

    visitor: str
    text: str
    digest: str
    made_at: datetime


def new_visitor_token(secret: bytes, now: datetime) -> VisitorToken:
    visitor = uuid7(now)
    body = uuid.UUID(visitor).bytes + secrets.token_bytes(32)
    return _visitor_token(visitor, encode(body + tag(secret, "visitor", body.hex())))


def read_visitor_token(secret: bytes, text: str, now: datetime) -> VisitorToken | None:
    """Return the token if this hub made it for this site and it can still be in use."""
    try:
        raw = decode(text)
    except ValueError:
        return None
    body, shown = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
    if len(body) != 48 or not hmac.compare_digest(tag(secret, "visitor", body.hex()), shown):
        return None
    token = _visitor_token(str(uuid.UUID(bytes=body[:16])), text)
    return token if token.made_at <= now + timedelta(seconds=LEEWAY_S) else None


def _visitor_token(visitor: str, text: str) -> VisitorToken:
    made_ms = uuid.UUID(visitor).int >> 80
    return VisitorToken(
        visitor=visitor,
        text=text,
        digest=encode(hashlib.sha256(text.encode()).digest()),
        made_at=datetime.fromtimestamp(made_ms / 1000, UTC),
    )


# --- sessions ------------------------------------------------------------------------------------


class Access(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an access token says: one session of one visitor, perhaps of a verified user."""

    sid: str
    sub: str  # the visitor
    th: str  # digest of the visitor token: rotating that ends the session
    iat: float  # to the millisecond: a sign-out ends what was issued before it
    exp: int
    aud: str
    user: str = ""
    page: dict[str, str] = {}
    locale: str = ""


def sign_access(secret: bytes, access: Access) -> str:
    return jwt.encode(msgspec.to_builtins(access), secret, algorithm="HS256")


def read_access(secret: bytes, text: str, audience: str, now: datetime) -> Access:
    """Raises :class:`SiteError`: token_expired for an old one, auth_required for any other."""
    try:
        claims = jwt.decode(
            text,
            secret,
            algorithms=["HS256"],
            options=_OPTIONS,
            audience=audience,
        )
        access = msgspec.convert(claims, Access)
    except (jwt.PyJWTError, msgspec.ValidationError, ValueError) as error:
        raise SiteError("auth_required", "the access token is missing or not valid") from error
    if access.exp <= now.timestamp():
        raise SiteError("token_expired", "the access token is over: open the session again")
    return access


# --- identity ------------------------------------------------------------------------------------

# PyJWT reads the machine's clock; the times are checked below, with the caller's.
_OPTIONS: Options = {
    "require": ["exp", "iat", "sub", "aud"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the site's server says about a user."""

    iss: str
    sub: str
    iat: int | float
    exp: int | float
    nbf: int | float | None = None
    jti: str = ""
    name: str = ""
    email: str = ""
    email_verified: bool = False
    phone: str = ""
    locale: str = ""
    attrs: dict[str, Any] = {}


def read_identity(text: str, keys: Sequence[IdentityKey], issuer: str, now: datetime) -> Claims:
    """Return the claims of an identity token.

    Raises :class:`SiteError`: identity_expired when only its time is over, identity_invalid for
    everything else. The algorithm is the key's, whatever the token's header says.
    """
    try:
        header = jwt.get_unverified_header(text)
        key = next(key for key in keys if key.kid == header.get("kid"))
        claims = jwt.decode(
            text,
            _usable(key),
            algorithms=[key.alg],
            audience=AUDIENCE,
            options=_OPTIONS,
        )
        read = msgspec.convert(claims, Claims)
    except StopIteration as error:
        raise _invalid("its kid is none of the site's keys") from error
    except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError) as error:
        raise _invalid(f"{type(error).__name__}: {error}") from error
    _check_claims(read, issuer, now.timestamp())
    return read


def _usable(key: IdentityKey) -> str:
    secret = key.key.reveal()
    if key.alg == "HS256" and len(secret.encode()) < MIN_HMAC_BYTES:
        raise _invalid(f"the secret of key {key.kid} has fewer than {MIN_HMAC_BYTES} bytes")
    return secret


def _check_claims(claims: Claims, issuer: str, now_s: float) -> None:
    if claims.iss != issuer:
        raise _invalid("iss is not this site")
    if not 0 < len(claims.sub) <= MAX_SUBJECT_CHARS:
        raise _invalid(f"sub has 1 to {MAX_SUBJECT_CHARS} characters")
    if claims.iat > now_s + LEEWAY_S or (claims.nbf or 0) > now_s + LEEWAY_S:
        raise _invalid("it is not valid yet: check the clock of the site's server")
    if claims.exp - claims.iat > IDENTITY_LIFE_S:
        raise _invalid("it is valid for more than an hour")
    if len(msgspec.json.encode(claims.attrs)) > MAX_ATTRS_BYTES:
        raise _invalid(f"attrs has more than {MAX_ATTRS_BYTES} bytes")
    if claims.exp <= now_s - LEEWAY_S:
        raise SiteError(
            "identity_expired", "the identity token is over: ask the site for a new one"
        )


def _invalid(reason: str) -> SiteError:
    return SiteError("identity_invalid", f"the identity token is refused: {reason}")


def user_hash(secret: Secret, user: str) -> str:
    return hmac.new(secret.reveal().encode(), f"user:{user}".encode(), hashlib.sha256).hexdigest()


def check_user_hash(secret: Secret | None, user: str, shown: str) -> None:
    """Raises :class:`SiteError` (identity_invalid) unless the hash is the user's."""
    if secret is None or not 0 < len(user) <= MAX_SUBJECT_CHARS:
        raise SiteError("identity_invalid", "this site takes identity tokens only")
    if not _same(user_hash(secret, user), shown):
        raise SiteError("identity_invalid", "the user hash is not valid")


# --- cursors and links ---------------------------------------------------------------------------


def sign_cursor(secret: bytes, owner: str, position: int, now: datetime) -> str:
    body = f"{position}.{int(now.timestamp())}"
    return f"{body}.{encode(tag(secret, 'cursor', owner, body))}"


def read_cursor(secret: bytes, owner: str, text: str, now: datetime) -> int:
    """Return the position. Raises ``ValueError`` with the reason why it cannot be resumed from."""
    body, _, shown = text.rpartition(".")
    if not _same(encode(tag(secret, "cursor", owner, body)), shown):
        raise ValueError("cursor_invalid")
    position, _, made = body.partition(".")
    if now.timestamp() - int(made) > CURSOR_LIFE.total_seconds():
        raise ValueError("cursor_too_old")
    return int(position)


def sign_link(secret: bytes, now: datetime, *parts: object) -> str:
    """Return the query string of a link to ``parts``, valid for ten minutes."""
    expires = int((now + LINK_LIFE).timestamp())
    return f"exp={expires}&sig={encode(tag(secret, 'link', expires, *parts))}"


def check_link(secret: bytes, now: datetime, exp: str, sig: str, *parts: object) -> bool:
    """Say whether the link is still valid. Raises :class:`SiteError` when it was never ours."""
    if not _same(encode(tag(secret, "link", exp, *parts)), sig):
        raise SiteError("auth_required", "the link is not valid")
    return int(exp) > now.timestamp()
