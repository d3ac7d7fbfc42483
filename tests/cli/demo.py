"""The demo's configuration with made-up values: an account on each of the six channels."""

from __future__ import annotations

from pathlib import Path
from string import Template

from docs.demo import play

NOBODY = "http://127.0.0.1:9"
VALUES = {
    "PORT": "8080",
    "SERVER_KEY": "a-server-key-of-thirty-two-letters-and-more",
    "IDENTITY_KEY": "an-identity-key-of-thirty-two-letters-and-more",
    "MAIL_PASSWORD": "the-password-of-shop",
    "IMAP_PORT": "9",
    "SMTP_PORT": "9",
    "WECHAT_APPID": "wx0123456789abcdef",
    "WECHAT_SECRET": "the-app-secret",
    "WECHAT_TOKEN": "f5f90209f92f1256c165b59d",
    "WECHAT_AES_KEY": "8dX0ll73asiUhtMvlGNFKbFYPcV7Ha5F2edMlsmJRRZ",
    "WECHAT_URL": NOBODY,
    "WEIBO_SECRET": "8aedba484dd63e523ce666e775175b77",
    "WEIBO_PATH": "d5b13b9f8f8bfb9bd74348f1d5ddda72",
    "WEIBO_TOKEN": "2.00the_one_year_token",
    "WEIBO_URL": NOBODY,
    "TODAY": "2026-03-02",
    "TWILIO_SID": "AC00000000000000000000000000000001",
    "TWILIO_TOKEN": "hubAuthToken0001",
    "TWILIO_KEY": "SK00000000000000000000000000000001",
    "TWILIO_KEY_SECRET": "the-secret-of-the-api-key",
    "TWILIO_NUMBER": "+15005550006",
    "TWILIO_URL": NOBODY,
}


def demo_config(folder: Path) -> Path:
    """Write the file into a folder, for its owner only, and return where it is."""
    path = folder / "omniline.toml"
    path.touch(mode=0o600)
    path.write_text(Template((play.HERE / "omniline.toml").read_text()).substitute(VALUES))
    (folder / "hotline.toml").write_text((play.HERE / "hotline.toml").read_text())
    return path
