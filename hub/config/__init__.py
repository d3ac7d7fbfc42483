"""Configuration: typed settings from one TOML file and the environment.

`load` reads the file. What belongs to a channel, backend or plugin stays a `RawTable` until its
owner reads it with `parse_settings` into a settings type of its own. Whatever is wrong becomes a
`ConfigError` that names file, line, key and remedy, and never a secret.

Read in this order: `hub_settings` and `sections` (what can be set), `fields` (what a setting says
about itself), `reader` (how values are read), `loader`, `describe`.
"""

from .describe import SettingRow, describe, settings_page, settings_table
from .fields import Cidr, HttpUrl, Key32, Name
from .hub_settings import ConversationSettings, HubSettings, MediaSettings
from .loader import load, load_text
from .notification_settings import NotificationSettings, PurposeSettings
from .problems import ConfigError, KeyPath, Problem, Wrong, did_you_mean
from .reader import parse_settings
from .secret import Secret
from .sections import AccountConfig, BackendConfig, Config, FeedConfig, redacted
from .source import RawTable

__all__ = [
    "AccountConfig",
    "BackendConfig",
    "Cidr",
    "Config",
    "ConfigError",
    "ConversationSettings",
    "FeedConfig",
    "HttpUrl",
    "HubSettings",
    "Key32",
    "KeyPath",
    "MediaSettings",
    "Name",
    "NotificationSettings",
    "Problem",
    "PurposeSettings",
    "RawTable",
    "Secret",
    "SettingRow",
    "Wrong",
    "describe",
    "did_you_mean",
    "load",
    "load_text",
    "parse_settings",
    "redacted",
    "settings_page",
    "settings_table",
]
