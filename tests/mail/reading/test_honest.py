"""Mails that the standard library writes are read back as meant: an independent oracle.

White space is left out of the comparison, because folding in the standard library loses some of it
between two encoded words.
"""

from __future__ import annotations

import unicodedata
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.policy import SMTP

from hypothesis import given, settings
from hypothesis import strategies as st

from normalizer.addresses import canonical
from normalizer.parts import File, Text
from tests.mail.reading.building import message_of, read

LETTERS = st.characters(categories=("L", "N"), max_codepoint=0x2FFFF)
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=6).map(" ".join)
BODIES = st.lists(WORDS, min_size=1, max_size=8).map("\n".join)


def squeezed(text: str) -> str:
    return unicodedata.normalize("NFC", "".join(text.split()))


@settings(max_examples=40, deadline=None)
@given(
    subject=WORDS,
    name=WORDS,
    body=BODIES,
    files=st.lists(st.tuples(WORDS, st.binary(max_size=300)), max_size=3),
    page=st.booleans(),
    cte=st.sampled_from(["base64", "quoted-printable", "8bit"]),
)
def test_a_mail_of_the_standard_library_is_read_as_it_was_meant(
    subject: str,
    name: str,
    body: str,
    files: list[tuple[str, bytes]],
    page: bool,
    cte: str,
) -> None:
    made = EmailMessage(policy=SMTP)
    made["From"] = Mailbox(name, addr_spec="li@example.org")
    made["To"] = "support@example.com"
    made["Subject"] = subject
    made["Message-ID"] = "<" + "m" * 90 + "@example.org>"
    body = "Dear support team, here is what I have to say:\n" + body
    made.set_content(body, cte=cte)
    if page:
        made.add_alternative(f"<p>{body}</p>", subtype="html", cte="base64")
    for label, data in files:
        made.add_attachment(data, maintype="application", subtype="pdf", filename=f"{label}.pdf")
    draft = message_of(made.as_bytes())
    assert canonical(draft.address) == "mail::mailbox:li@example.org"
    assert draft.profile is not None
    assert squeezed(draft.profile.name) == squeezed(name)
    assert squeezed(draft.subject) == squeezed(subject)
    assert draft.vendor_ids == ("<" + "m" * 90 + "@example.org>",)
    said = draft.parts[0]
    assert isinstance(said, Text)
    assert squeezed(said.text + said.quoted) == squeezed(body)
    kept = read(made.as_bytes()).files
    assert [file.data for file in kept] == [data for _, data in files]
    shown = [part.media.name for part in draft.parts if isinstance(part, File)]
    assert shown == [file.media.name for file in kept]
    assert list(map(squeezed, shown)) == [squeezed(f"{label}.pdf") for label, _ in files]
