"""The vendors of the demo: the strict stand-ins of the project's own tests, on this machine.

They check what the hub sends as the vendors would: tokens, encodings, fields, windows. Nothing
leaves the machine.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from tests.ivr.fake_twilio import NUMBER
from tests.mail.fake_imap import PASSWORD, FakeImap
from tests.mail.fake_smtp import FakeSmtp, Taken
from tests.sms import fake_twilio as twilio
from tests.wechat import fake_wechat as wechat
from tests.weibo import fake_weibo as weibo

LETTERS = string.ascii_letters + string.digits
AES_KEY_CHARS = 43
SHOP = "shop@hub.test"


class Vendors:
    """Every vendor, running; ``settings`` is what the hub's file has to say of them."""

    def __init__(self) -> None:
        self.imap = FakeImap()
        self.smtp = FakeSmtp(user="shop", password=PASSWORD)
        self.smtp.on_taken = self._delivered
        self.wechat = wechat.FakeWechat()
        self.weibo = weibo.FakeWeibo()
        self.twilio = twilio.FakeTwilio(numbers=[NUMBER])
        self.twilio.now = lambda: datetime.now(UTC)

    def _delivered(self, taken: Taken) -> None:
        """What the shop sends to itself comes in again."""
        if SHOP in taken.recipients:
            self.imap.add(taken.data)

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "MAIL_PASSWORD": PASSWORD,
            "IMAP_PORT": str(self.imap.port),
            "SMTP_PORT": str(self.smtp.port),
            "WECHAT_APPID": wechat.APPID,
            "WECHAT_SECRET": wechat.APP_SECRET,
            "WECHAT_TOKEN": secrets.token_hex(12),
            "WECHAT_AES_KEY": "".join(secrets.choice(LETTERS) for _ in range(AES_KEY_CHARS)),
            "WECHAT_URL": self.wechat.url,
            "WEIBO_SECRET": secrets.token_hex(16),
            "WEIBO_PATH": secrets.token_hex(16),
            "WEIBO_TOKEN": weibo.TOKEN,
            "WEIBO_URL": f"http://{self.weibo.host}",
            "TODAY": datetime.now(UTC).date().isoformat(),
            "TWILIO_SID": twilio.SID,
            "TWILIO_TOKEN": twilio.TOKEN,
            "TWILIO_KEY": twilio.KEY,
            "TWILIO_KEY_SECRET": twilio.KEY_SECRET,
            "TWILIO_NUMBER": NUMBER,
            "TWILIO_URL": self.twilio.url,
        }


@asynccontextmanager
async def vendors() -> AsyncIterator[Vendors]:
    """Run all of them."""
    async with AsyncExitStack() as stack:
        all_of_them = Vendors()
        for each in (
            all_of_them.imap,
            all_of_them.smtp,
            all_of_them.wechat,
            all_of_them.weibo,
            all_of_them.twilio,
        ):
            await stack.enter_async_context(each)
        yield all_of_them
