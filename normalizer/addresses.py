"""Where somebody can be reached: one canonical text per address, for ever.

The grammar is ``scheme:account:kind:id`` with percent-encoded parts, and ``;n`` behind
it from the second tenure of a number on (numbers change hands)::

    wechat:shop:openid:oHub1        an open-id, valid within one account
    weibo:shop:uid:5550001234
    site:shop:user:42               site:shop:visitor:018b...
    mail::mailbox:li@example.com    no account: one mailbox, whoever receives its mail
    mail::unverified:li@example.com who says to be li, and failed to prove it: somebody else
    tel::e164:+8613800138000        shared by sms and ivr
    sms:main:sender:10086           a short code or name that is no phone number
    ivr:main:anonymous:CA11...      a withheld number: a person of its own for each call

Canonical texts are hashed into ids (``adr_``), so changing how one is made needs a
migration: the golden files of the connectors' tests hold them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote, unquote

import phonenumbers

from normalizer.model import Model

_SAFE = "@+-._~"
_PART = re.compile(r"[A-Za-z0-9@+\-._~%]*\Z")
_TENURE = re.compile(r"[1-9][0-9]{0,5}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9@+\-._~]*\Z").match  # needs no quoting
MAX_ID_CHARS = 512
MAX_TENURE = 999_999


class AddressError(ValueError):
    """The text or the parts are no address; the message says which part and why."""


class Address(Model, frozen=True, kw_only=True):
    """One place where somebody is reached on one channel account."""

    scheme: str
    kind: str
    id: str
    account: str = ""
    tenure: int = 1

    def __str__(self) -> str:
        return canonical(self)


@lru_cache(maxsize=32_768)
def canonical(address: Address) -> str:
    """Return the one text that stands for ``address`` everywhere.

    Raises :class:`AddressError` for an empty scheme, kind or id, or an id over 512 characters.
    """
    for name in ("scheme", "kind", "id"):
        if not getattr(address, name):
            raise AddressError(f"an address needs a {name}")
    if len(address.id) > MAX_ID_CHARS:
        raise AddressError(f"an address id has at most {MAX_ID_CHARS} characters")
    if not 1 <= address.tenure <= MAX_TENURE:
        raise AddressError("tenure counts from 1 and has at most six digits")
    parts = (address.scheme, address.account, address.kind, address.id)
    try:
        text = ":".join([part if _PLAIN(part) else quote(part, safe=_SAFE) for part in parts])
    except UnicodeEncodeError as error:
        raise AddressError("an address cannot hold lone surrogates") from error
    return text if address.tenure == 1 else f"{text};{address.tenure}"


def parse_address(text: str) -> Address:
    """Read a canonical text back. Raises :class:`AddressError` for any other text."""
    body, _, tenure = text.partition(";")
    parts = body.split(":")
    if len(parts) != 4 or not all(_PART.match(part) for part in parts):
        raise AddressError("an address is scheme:account:kind:id with percent-encoded parts")
    if tenure and not _TENURE.match(tenure):
        raise AddressError("a tenure is a number of at most six digits")
    try:
        scheme, account, kind, ident = (unquote(part, errors="strict") for part in parts)
        count = int(tenure) if tenure else 1
    except ValueError as error:
        raise AddressError("the address is not percent-encoded UTF-8") from error
    address = Address(scheme=scheme, account=account, kind=kind, id=ident, tenure=count)
    if canonical(address) != text:
        raise AddressError("this is not the canonical form of the address")
    return address


# What cannot stand in a mailbox as people write it: control and format characters, lone
# surrogates and white space by category; the rest are RFC 5322's specials.
_NOT_IN_LOCAL = re.compile(r"[()<>\[\]:;,\\]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # what IDNA takes for a dot
# The older IDNA in the standard library writes these as other letters, and so would take
# straße.de, which has an owner of its own, for strasse.de.
_DEVIATIONS = re.compile("[\u00df\u03c2\u200c\u200d]")


def mailbox(text: str) -> Address:
    """Return the address of a mailbox from its addr-spec (``li@example.com``).

    The domain is compared without case and in its ASCII form; the local part is lowered as
    well, because no provider in use tells two people apart by it. Plus tags stay: they are
    part of where the person is reached.
    Raises :class:`AddressError` when there is no single ``@`` with something on both sides, for
    a display name or angle brackets, and for a domain that cannot be one.
    """
    text = text.strip()
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain or "@" in local:
        raise AddressError("a mailbox is local@domain")
    if len(text) > MAX_ID_CHARS:
        raise AddressError(f"a mailbox has at most {MAX_ID_CHARS} characters")
    local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())
    if _NOT_IN_LOCAL.search(local) or not local.isprintable() or " " in local:
        raise AddressError("a mailbox is local@domain without other signs")
    ident = f"{local}@{_host(domain)}"
    if len(ident) > MAX_ID_CHARS:
        raise AddressError(f"a mailbox has at most {MAX_ID_CHARS} characters")
    return Address(scheme="mail", kind="mailbox", id=ident)


def unverified_mailbox(text: str) -> Address:
    """Return the address of whoever writes under a mailbox's name without proving it.

    It is never that of the mailbox: what is forged lands in a timeline of its own.
    Raises :class:`AddressError` like :func:`mailbox`.
    """
    return Address(scheme="mail", kind="unverified", id=mailbox(text).id)


def _host(domain: str) -> str:
    labels = _DOTS.split(domain)
    if len(labels) > 1 and not labels[-1]:
        labels.pop()  # the root's dot
    try:
        host = [_ascii_label(label) for label in labels]
    except UnicodeError as error:
        raise AddressError("the domain of the mailbox is not valid") from error
    if not all(_LABEL.match(label) for label in host) or len(".".join(host)) > 253:
        raise AddressError("the domain of the mailbox is not valid")
    return ".".join(host)


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label.lower()
    if _DEVIATIONS.search(label):
        label = unicodedata.normalize("NFC", label.lower())
        return "xn--" + label.encode("punycode").decode("ascii")
    return label.encode("idna").decode("ascii").lower()


_NUMBER = re.compile(r"(?:tel:)?[+\d ().\-\u2010-\u2015\u2212/]{3,40}\Z", re.IGNORECASE)


def phone(text: str, region: str = "CN") -> Address | None:
    """Return the shared address of a phone number, or None when the text is none.

    ``region`` (ISO 3166-1 alpha-2) decides numbers without a country code. Short codes,
    service numbers and alphanumeric senders give None: they are addresses of their own kind
    and never merge people (contracts/sms.md section 6). So do texts that only contain a number:
    ``whatsapp:+...`` is to be split off before, and an extension is not the switchboard.
    """
    return _phone(text, region)


# A connector asks for the number it received, and the pipeline once more for the same.
@lru_cache(maxsize=4096)
def _phone(text: str, region: str) -> Address | None:
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if c.isprintable()).strip()
    if not _NUMBER.match(text):
        return None
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    if _is_service_number(number):
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return Address(scheme="tel", kind="e164", id=e164)


# Numbers that the metadata calls valid but that belong to companies, not to people.
_SERVICE_TYPES = frozenset(
    {
        phonenumbers.PhoneNumberType.TOLL_FREE,
        phonenumbers.PhoneNumberType.PREMIUM_RATE,
        phonenumbers.PhoneNumberType.SHARED_COST,
        phonenumbers.PhoneNumberType.UAN,
    }
)


def _is_service_number(number: phonenumbers.PhoneNumber) -> bool:
    national = str(number.national_number)
    # Area code and subscriber have ten digits at least; less is 10086 or 021-95588.
    if number.country_code == 86 and (len(national) < 10 or national.startswith(("400", "800"))):
        return True
    return phonenumbers.number_type(number) in _SERVICE_TYPES
