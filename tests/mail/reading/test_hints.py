"""What else a mail may belong to, where its References do not tell: told to the hub as hints."""

from __future__ import annotations

import pytest

from normalizer.drafts import ThreadLabel
from tests.mail.reading.building import mail, message_of

SUBJECT = ThreadLabel(name="subject:order 42", joins=False, days=30)
ANSWER = ThreadLabel(name="subject:order 42", joins=True, days=30)


@pytest.mark.parametrize(
    ("headers", "subject", "continues", "labels"),
    [
        ((), "Order  42", (), (SUBJECT,)),
        ((), "Re: order 42", (), (ANSWER,)),
        ((), "回复：Fwd: ORDER 42", (), (ANSWER,)),
        ((), "", (), ()),
        ((), "Re:", (), ()),
        (("In-Reply-To: <b@x>",), "order 42", ("<b@x>",), (SUBJECT,)),
        (
            ("In-Reply-To: <b@x>", "References: <a@x> <b@x> <c@x>"),
            "",
            ("<b@x>", "<c@x>", "<a@x>"),
            (),
        ),
        (("X-GM-THRID: 12",), "Re: order 42", (), (ThreadLabel(name="gmail:12"), ANSWER)),
        (("Auto-Submitted: auto-replied", "In-Reply-To: <b@x>"), "Re: order 42", ("<b@x>",), ()),
        (("List-Id: <news.x>",), "order 42", (), ()),
    ],
)
def test_the_hints_of_a_mail(
    headers: tuple[str, ...],
    subject: str,
    continues: tuple[str, ...],
    labels: tuple[ThreadLabel, ...],
) -> None:
    """Only an answer joins by its subject, and automatic mail neither joins by it nor lends it."""
    message = message_of(mail("x", *headers, subject=subject))
    assert message.continues == continues
    assert message.labels == labels
