"""Who may come in: origins, app keys, CORS, settings; and the pure message door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.site import SiteConnector, register_connectors
from connectors.site.errors import SiteError
from connectors.site.limits import Limiter, network_of
from connectors.site.messages import clean_url
from connectors.site.origins import Origins
from connectors.site.settings import Limits, SiteSettings
from connectors.site.tokens import uuid7
from hub import Account, ConfigError, RawTable, Refused, parse_settings
from hub.config.source import Source
from hub.testing.clock import FakeClock
from hub.testing.services import FakeServices
from normalizer.addresses import canonical
from normalizer.drafts import Message
from normalizer.keys import dedupe_key
from tests.site.conftest import MakeSite
from tests.site.space import APP_KEY, ORIGIN, SITE, Answer, Running, settings

KEY = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d"


# --- origins -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        ("https://www.example.com", True),
        ("https://www.example.com:443", True),
        ("https://WWW.example.com", True),
        ("http://www.example.com", False),
        ("https://www.example.com:8443", False),
        ("https://example.com", False),
        ("https://www.example.com.evil.example", False),
        ("https://evil.example/www.example.com", False),
        ("https://m.shop.example", True),
        ("https://a.b.shop.example", True),
        ("https://shop.example", False),
        ("https://evilshop.example", False),
        ("http://m.shop.example", False),
        ("null", False),
        ("", False),
        ("https://[", False),
        ("https://www.example.com:99999", False),
    ],
)
def test_origins_match_exactly_or_below_a_star(origin: str, fine: bool) -> None:
    """Scheme, host and port; "*." stands for subdomains and never for the domain itself."""
    assert Origins(settings(), insecure=False).allows(origin) is fine


async def test_cors_reflects_the_one_origin(running: Running) -> None:
    """The listed origin and Vary, never a star, no credentials; the preflight names headers."""
    preflight = await running.call(
        "OPTIONS",
        "/conversations/x/messages",
        headers={
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, idempotency-key",
        },
    )
    answer = await running.call("POST", "/sessions", json={})
    foreign = await running.call("OPTIONS", "/sessions", origin="https://evil.example")

    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Headers"] == (
        "Authorization, Content-Type, Idempotency-Key"
    )
    for each in (preflight, answer):
        assert each.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert each.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in each.headers
    assert foreign.code == "origin_forbidden"
    assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_every_browser_path_answers_a_preflight(running: Running) -> None:
    """A path that the page may call and the browser may not ask about cannot be used."""
    routes = running.connector.routes()
    asked = {route.path for route in routes if route.method == "OPTIONS"}
    public = ("/config", "/widget.js", "/ws", "/server", "/files")
    called = {route.path for route in routes if not route.path.startswith(public)}
    assert called == asked


async def test_native_apps_come_in_with_an_app_key(running: Running) -> None:
    """No Origin and the right key, over REST and the socket; a wrong key or none is refused."""
    right = {"X-Omniline-App-Key": APP_KEY}
    wrong = {"X-Omniline-App-Key": "wrong"}
    answer = await running.call("POST", "/sessions", origin=None, headers=right, json={})
    assert answer.status == 201
    assert "Access-Control-Allow-Origin" not in answer.headers
    refused = await running.call("POST", "/sessions", origin=None, headers=wrong, json={})
    assert refused.code == "origin_forbidden"
    # A page that is not listed gains nothing from knowing an app key.
    both = await running.call(
        "POST", "/sessions", origin="https://evil.example", headers=right, json={}
    )
    assert both.code == "origin_forbidden"
    url = running.base.replace("http", "ws", 1) + "/ws"
    async with running.http.ws_connect(url, headers=right, protocols=("omniline.v1",)) as ws:
        await ws.send_json({"t": "hello", "access_token": answer.json["access_token"]})
        assert (await ws.receive_json(timeout=5))["t"] == "welcome"
        running.sockets.append(ws)


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({"host": "www.example.com", "sec-fetch-site": "same-origin"}, True),
        ({"host": "evil.example", "sec-fetch-site": "same-origin"}, False),
        ({"host": "www.example.com", "sec-fetch-site": "cross-site"}, False),
        ({"host": "www.example.com"}, False),
    ],
)
def test_a_listed_page_may_ask_its_own_host_without_an_origin(
    headers: dict[str, str], fine: bool
) -> None:
    """Browsers leave the origin of a same-origin GET out: the host has to be a listed one."""
    origins = Origins(settings(), insecure=False)
    if fine:
        assert origins.check(headers) is None
    else:
        with pytest.raises(SiteError):
            origins.check(headers)


async def test_an_insecure_account_may_say_star(make_site: MakeSite) -> None:
    """For a trial only: every page, and callers without an origin when there are no app keys."""
    running = await make_site(insecure=True, origins=("*",), app_keys=())
    for origin in ("https://anything.example", None):
        assert (await running.call("POST", "/sessions", origin=origin, json={})).status == 201


async def test_anonymous_sessions_are_limited_by_network(running: Running) -> None:
    """Ten new visitors a minute from one address; those who come back are not counted."""
    first = await running.visitor()
    for _ in range(9):
        await running.visitor()
    eleventh = await running.call("POST", "/sessions", json={})
    known = await running.call("POST", "/sessions", json={"visitor_token": first.visitor_token})

    assert (eleventh.status, eleventh.code) == (429, "rate_limited")
    assert eleventh.headers["Retry-After"] == "6"
    assert known.status == 201
    running.clock.advance(6)
    await running.visitor()


async def test_many_users_behind_one_address_log_in_and_who_guesses_is_stopped(
    make_site: MakeSite,
) -> None:
    """An office, or a carrier's gateway, is one address; each of its people has a browser."""
    running = await make_site(limits={"identifies_per_minute": 2})

    async def opens(token: str) -> Answer:
        return await running.call("POST", "/sessions", json={"identity_token": token})

    for user in ("a", "b", "c", "d"):
        assert (await opens(running.identity(user))).status == 201
    assert (await opens(running.identity("a"))).status == 201
    assert (await opens(running.identity("a"))).code == "rate_limited", "too often the same user"
    for _ in range(2):
        assert (await opens(running.identity("e", key="x" * 40))).code == "identity_invalid"
    guess = await opens(running.identity("e", key="x" * 40))
    assert (guess.status, guess.code) == (429, "rate_limited")


def test_callers_are_counted_by_ipv4_address_and_ipv6_network() -> None:
    """Who has a /64 has more addresses than there are buckets."""
    assert network_of("203.0.113.7") == "203.0.113.7"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9")
    assert network_of("2001:db8:1:3::9") != network_of("2001:db8:1:2::9")
    assert network_of("::ffff:203.0.113.7") == "203.0.113.7"
    assert network_of("") == ""


def test_two_hundred_messages_an_hour_beside_twenty_a_minute() -> None:
    """Who sends at the pace of the minute meets the hour's limit after ten minutes and a bit."""
    clock = FakeClock()
    limiter = Limiter(Limits(), clock.monotonic)
    sent = 0
    for _ in range(3600):
        clock.advance(1)
        sent += limiter.allows("v", "message") and limiter.allows("v", "message_hour")
    assert 200 <= sent <= 400
    clock.advance(3600)
    limiter.take("v", "message", "message_hour")


def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of visitors takes no more memory than the bound; the latest are remembered."""
    monkeypatch.setattr("connectors.site.limits.MAX_KEYS", 10)
    limiter = Limiter(Limits(), FakeClock().monotonic)
    for number in range(100):
        limiter.take(f"visitor-{number}", "message")
    assert len(limiter._buckets) == 10


# --- public paths --------------------------------------------------------------------------------


async def test_the_config_tells_what_a_client_needs_and_no_secret(running: Running) -> None:
    """Cacheable for a minute, readable from everywhere, without keys."""
    answer = await running.call("GET", "/config", origin=None)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    told = answer.json
    assert told["limits"]["text_chars"] == 4000
    assert told["availability"]["state"] == "online"
    for secret in ("site-secret", APP_KEY, "server-key"):
        assert secret not in answer.body.decode()


async def test_the_widget_is_cached_by_its_etag(running: Running) -> None:
    """The script for five minutes, then a 304 while it is the same."""
    first = await running.call("GET", "/widget.js", origin=None)
    again = await running.call(
        "GET", "/widget.js", origin=None, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert first.headers["Cache-Control"] == "public, max-age=300"
    assert (again.status, again.body) == (304, b"")
    assert b"innerHTML" not in first.body
    assert b"insertAdjacentHTML" not in first.body
    assert b"document.write" not in first.body


async def test_the_demo_page_is_off_unless_asked_for(make_site: MakeSite) -> None:
    """A page to try the widget on, where the operator wants one."""
    off, on = await make_site(), await make_site(demo_page=True)
    assert (await off.call("GET", "/demo", origin=None)).status == 404
    page = await on.call("GET", "/demo", origin=None)
    assert page.status == 200
    assert b"widget.js" in page.body


# --- settings ------------------------------------------------------------------------------------


def read(values: dict[str, Any]) -> SiteSettings:
    source = Source("omniline.toml", folder=Path(), environ={"SITE_KEY": "k" * 32})
    return parse_settings(SiteSettings, RawTable(values, source=source), "account site:shop")


def test_settings_are_read_from_a_file() -> None:
    """As an operator writes them, secrets from the environment."""
    made = read(
        {
            "origins": ["https://www.example.com"],
            "identity_keys": [{"kid": "k1", "alg": "HS256", "key": {"env": "SITE_KEY"}}],
            "limits": {"messages_per_minute": 30},
            "availability": "away",
        }
    )
    assert made.identity_keys[0].key.reveal() == "k" * 32
    assert (made.limits.messages_per_minute, made.limits.message_burst) == (30, 5)
    assert made.availability == "away"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"origins": ["https://www.example.com/"]}, "no path"),
        ({"origins": ["www.example.com"]}, "not a web origin"),
        ({"origins": ["https://*"]}, "subdomains only"),
        ({"origins": ["https://a.*.com"]}, "subdomains only"),
        (
            {"identity_keys": [{"kid": "k", "alg": "HS256", "key": {"env": "SHORT"}}]},
            "SHORT is not set",
        ),
        ({"identity_keys": [{"kid": "k", "alg": "none", "key": "x" * 32}]}, "one of"),
        ({"identity_keys": [{"kid": "k", "alg": "HS256", "key": "short"}]}, "at least 32 bytes"),
        (
            {"identity_keys": [{"kid": "k", "alg": "HS256", "key": "x" * 32}] * 2},
            "the same kid",
        ),
        ({"availability": "sometimes"}, "one of"),
        ({"theme": {"color": "red"}}, "#"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], said: str) -> None:
    """The error says what is wrong with which key."""
    with pytest.raises(ConfigError) as wrong:
        read(values)
    assert said in str(wrong.value)
    assert "xxxx" not in str(wrong.value)


def connector(made: SiteSettings, *, insecure: bool = False) -> SiteConnector:
    services = FakeServices()
    account = Account(channel="site", key=SITE, label="", settings=made, insecure=insecure)
    return SiteConnector(account, services.connector_context("site", SITE))


def test_an_account_that_nobody_could_use_or_everybody_refuses_to_start() -> None:
    """No origins and no app keys, or a star: said in words that end in a remedy."""
    (empty,) = connector(SiteSettings()).check_settings()
    assert "origins is empty" in empty
    (star,) = connector(SiteSettings(origins=("*",))).check_settings()
    assert "every page" in star
    assert not connector(SiteSettings(), insecure=True).check_settings()
    assert not connector(SiteSettings(origins=(ORIGIN,))).check_settings()
    assert not connector(settings(origins=())).check_settings()


def test_every_setting_says_what_it_is_for() -> None:
    """Field by field, nested ones too: the settings page has no empty line."""
    from hub.config.fields import field_of

    def check(kind: type[msgspec.Struct]) -> None:
        for found in msgspec.structs.fields(kind):
            field = field_of(found.type)
            assert field.note("description"), f"{kind.__name__}.{found.name}"
            for inner in (field.type, field.item):
                if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                    check(inner)

    check(SiteSettings)


# --- the message door ----------------------------------------------------------------------------


def test_the_plugin_registers_its_connector() -> None:
    """One class, for the channel that the folder is named after."""
    assert list(register_connectors({})) == [SiteConnector]
    assert SiteConnector.channel == "site"


@pytest.mark.parametrize("made", [settings(), settings(origins=()), settings(app_keys=())])
def test_samples_are_believed_and_forged_ones_are_not(made: SiteSettings) -> None:
    """Each signed header taken away or changed makes a stranger's request of it."""
    site = connector(made)
    for sample in site.samples(site.context.clock):
        drafts = site.parse(site.verify(sample.request))
        assert len(drafts) == sample.drafts
        assert sample.signed_headers
        for name in sample.signed_headers:
            for headers in (
                {k: v for k, v in sample.request.headers.items() if k != name},
                {**sample.request.headers, name: sample.request.headers[name] + "x"},
            ):
                forged = msgspec.structs.replace(sample.request, headers=headers)
                with pytest.raises(Refused) as refused:
                    site.verify(forged)
                assert refused.value.status in (401, 403)
                answer = site.refusal(refused.value)
                assert json.loads(answer.body)["t"] == "error"


def test_parse_is_pure_and_its_key_is_the_clients() -> None:
    """Twice the same draft; scope, address and key as the dedupe key needs them."""
    site = connector(settings())
    anonymous, user = site.samples(site.context.clock)
    verified = site.verify(anonymous.request)
    (draft,) = site.parse(verified)
    assert isinstance(draft, Message)
    assert site.parse(verified) == (draft,)
    visitor = verified.facts["visitor"]
    assert dedupe_key("site", SITE, draft) == (
        f"entry|site|{SITE}|site:{SITE}:visitor:{visitor}|{KEY}"
    )
    (said,) = site.parse(site.verify(user.request))
    assert isinstance(said, Message)
    assert canonical(said.address) == f"site:{SITE}:user:10086"
    ack = json.loads(site.answer(verified, [draft], site.context.clock).body)
    assert (ack["t"], ack["re"]) == ("ack", KEY)
    assert ack["server_msg_id"] == site.context.entry_id(draft)


def test_a_parsed_request_can_be_replayed_from_what_was_kept() -> None:
    """Without the authorization header, which is cut: the facts carry what it said."""
    site = connector(settings())
    verified = site.verify(site.samples(site.context.clock)[0].request)
    kept = {
        name: value
        for name, value in verified.request.headers.items()
        if name in site.allowed_headers
    }
    assert "authorization" not in kept
    request = msgspec.structs.replace(verified.request, headers=kept)
    again = msgspec.structs.replace(verified, request=request)
    assert site.parse(again) == site.parse(verified)


def test_every_capability_part_can_be_shown() -> None:
    """What the connector says it sends, the renderer shows as that type and not as text."""
    from connectors.site.timeline import part_out
    from normalizer import parts

    media = parts.Media(mime="image/png", blob="blb_1")
    made = {
        "text": parts.Text(text="x"),
        "image": parts.Image(media=media),
        "audio": parts.Audio(media=media),
        "video": parts.Video(media=media),
        "file": parts.File(media=media),
        "location": parts.Location(lat=1, lon=2),
        "card": parts.Card(title="x", image=media, buttons=(parts.Button(label="b", url="u"),)),
        "quick_replies": parts.QuickReplies(replies=(parts.Button(label="b", value="v"),)),
        "form": parts.Form(fields=({"name": "email"},)),
        "link": parts.Link(url="https://www.example.com"),
    }
    assert made.keys() == SiteConnector.capabilities.sends
    for tag, part in made.items():
        assert part_out(part, lambda index: "url", 0)["type"] == tag
    unknown = parts.Extension(name="acme.coupon", fallback="10 % off")
    assert part_out(unknown, lambda index: "", 0) == {
        "type": "text",
        "text": "10 % off",
        "format": "plain",
    }


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://a.example/p?utm_source=x&token=y", "https://a.example/p?utm_source=x"),
        ("https://a.example/p#token=y", "https://a.example/p"),
        ("https://u:p@a.example:8443/p", "https://a.example:8443/p"),
        ("https://[2001:db8::1]/p", "https://[2001:db8::1]/p"),
        ("javascript:alert(1)", ""),
        ("file:///etc/passwd", ""),
        ("https://[bad", ""),
        ("", ""),
    ],
)
def test_page_addresses_are_stripped(url: str, kept: str) -> None:
    """Credentials, fragments and parameters that nobody allowed are cut before storing."""
    assert clean_url(url, ("utm_source",)) == kept


def test_ids_of_a_visitor_survive_a_change_of_everything_else() -> None:
    """The golden lines of this channel: changing one of them needs a migration."""
    from connectors.site.visitors import Visitors

    visitors = Visitors("shop", FakeServices().connector_context("site", "shop"))
    visitor = "018bcfe5-6800-7a10-9c3e-0d6f5a1b2c3d"
    assert canonical(visitors.visitor_address(visitor)) == f"site:shop:visitor:{visitor}"
    assert canonical(visitors.user_address("4:2/用")) == "site:shop:user:4%3A2%2F%E7%94%A8"
    assert len(uuid7(FakeClock().now())) == 36
