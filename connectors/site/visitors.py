"""Who speaks: visitors, users, and what binds one to the other.

Nothing is stored about a visitor before the first message, upload or login: bots open sessions
by the thousand. A visitor's row then holds the digest of the visitor token and, once a login
was seen in that browser, the user.

When an identity token comes in (the contract's section 4):

(a) the visitor has no user yet: it is bound, and what it said before is linked to the user;
(b) it is bound to another user: a new visitor is made, and nothing moves;
(c) the user has a conversation already: that stays the primary one, the visitor's is linked.

(a) and (c) are one rule here, because threads stay apart and no entry ever moves.

A mailbox that the token calls verified is the user's too: what comes from there by mail belongs
into the same timeline. The hub is told once for each mailbox, and only when it knows one of the
two: somebody who logs in and never writes makes no customer.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import ClassVar

import msgspec
import structlog
from msgspec.structs import replace

from connectors.site.errors import SiteError
from connectors.site.tokens import (
    ACCESS_LIFE,
    LEEWAY_S,
    VISITOR_LIFE,
    Access,
    Claims,
    VisitorToken,
    new_visitor_token,
    read_access,
    read_visitor_token,
    sign_access,
    uuid7,
)
from hub import ConnectorContext, Doc, Index
from normalizer.addresses import Address, AddressError, mailbox
from normalizer.drafts import Evidence, Identity, Profile
from normalizer.model import Trust

log = structlog.get_logger(__name__)

MAX_BOUND = 20  # visitors of one user whose threads a session shows, the latest
SEEN_EVERY = timedelta(days=1)  # how exactly the sliding expiry is kept
_KNOWN = 50_000  # visitors of whom this process remembers that their row is there


class VisitorDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """One browser. The id is ``account:visitor``; the visitor token itself is never stored."""

    collection: ClassVar[str] = "x_site_visitors"
    indexes: ClassVar[tuple[Index, ...]] = (
        Index((("account", 1), ("user", 1), ("bound_at", -1)), only_where={"spoke": True}),
        Index((("address", 1),)),
        Index((("expire_at", 1),), expires=True),
    )

    account: str
    visitor: str
    address: str  # adr_, by which an erasure finds it
    token: str  # digest
    rev: int
    user: str = ""
    bound_at: datetime | None = None
    spoke: bool = False  # before it was bound: its thread belongs to the user's history
    linked: bool = False  # the hub was told
    ended: bool = False  # logged out: neither its token nor its sessions are good any more
    blocked: bool = False
    expire_at: datetime | None = None


class UserDoc(Doc, frozen=True, kw_only=True, omit_defaults=True, rename={"id": "_id"}):
    """What the site's server said of a user. The id is ``account:user``."""

    collection: ClassVar[str] = "x_site_users"
    indexes: ClassVar[tuple[Index, ...]] = (Index((("address", 1),)),)
    sealed: ClassVar[tuple[str, ...]] = ("profile", "mailbox_told")

    account: str
    user: str
    address: str  # adr_, by which an erasure finds it
    rev: int
    profile: Profile | None = None
    mailbox_told: str = ""  # the verified mailbox that the hub was told of
    signed_out_at: datetime | None = None
    blocked: bool = False


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was checked: its access token, and what is stored about who speaks."""

    access: Access
    visitor: VisitorDoc | None = None
    user: UserDoc | None = None

    @property
    def id(self) -> str:
        return self.access.sub

    @property
    def verified(self) -> bool:
        return bool(self.access.user)

    @property
    def level(self) -> str:
        return "verified" if self.verified else "anonymous"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A session just opened or changed. ``visitor_token`` is there when it is new."""

    session: Session
    access_token: str
    visitor_token: str = ""


class Visitors:
    """Opens, checks and changes the sessions of one site account."""

    def __init__(self, account: str, context: ConnectorContext) -> None:
        self._account = account
        self._context = context
        self._clock = context.clock
        self._visitor_secret = context.secret("visitor")
        self._access_secret = context.secret("access")
        self._visitors = context.documents(VisitorDoc)
        self._users = context.documents(UserDoc)
        self._spoke: OrderedDict[str, None] = OrderedDict()

    # --- addresses -----------------------------------------------------------------------------

    def visitor_address(self, visitor: str) -> Address:
        return Address(scheme="site", account=self._account, kind="visitor", id=visitor)

    def user_address(self, user: str) -> Address:
        return Address(scheme="site", account=self._account, kind="user", id=user)

    def speaks_as(self, access: Access) -> Address:
        """Return the address from which this session's messages come."""
        if access.user:
            return self.user_address(access.user)
        return self.visitor_address(access.sub)

    async def addresses(self, session: Session) -> list[Address]:
        """Return the addresses whose timelines this session may see, its own one first."""
        own = [self.speaks_as(session.access)]
        if session.verified:
            bound = await self._visitors.find(
                {"account": self._account, "user": session.access.user, "spoke": True},
                sort=[("bound_at", -1)],
                limit=MAX_BOUND,
            )
            own += [self.visitor_address(doc.visitor) for doc in bound]
        return own

    # --- opening -------------------------------------------------------------------------------

    async def known(self, visitor_token: str) -> VisitorToken | None:
        """Return the visitor token if it is still good: ours, not ended, not too old."""
        token = read_visitor_token(self._visitor_secret, visitor_token, self._clock.now())
        if token is None:
            return None
        doc = await self._visitors.get(self._key(token.visitor))
        if doc is None:
            # Never spoken, or forgotten after 180 days of silence: both are too old by then.
            return token if token.made_at > self._clock.now() - VISITOR_LIFE else None
        if doc.ended or doc.token != token.digest:
            return None
        await self._slide(doc)
        return token

    async def open(
        self,
        token: VisitorToken | None,
        claims: Claims | None,
        *,
        page: dict[str, str],
        locale: str,
    ) -> Opened:
        """Open a session for a visitor, who is new when ``token`` is None."""
        fresh = token is None
        token = token or new_visitor_token(self._visitor_secret, self._clock.now())
        opened = self._opened(token.visitor, token.digest, page=page, locale=locale)
        if claims is not None:
            opened = await self.identify(opened.session, claims)
        elif not fresh:
            opened = replace(opened, session=await self.check(opened.session.access))
        if fresh and not opened.visitor_token:
            opened = replace(opened, visitor_token=token.text)
        return opened

    def sample(self, user: str) -> Opened:
        """Return a session that nobody has, for signed samples."""
        token = new_visitor_token(self._visitor_secret, self._clock.now())
        return self._opened(token.visitor, token.digest, page={}, locale="zh-CN", user=user)

    def _opened(
        self,
        visitor: str,
        digest: str,
        *,
        page: dict[str, str],
        locale: str,
        user: str = "",
        until: float | None = None,
    ) -> Opened:
        now = self._clock.now()
        expires = (now + ACCESS_LIFE).timestamp()
        if until is not None:  # not longer than the login, but long enough to be used
            expires = max(min(expires, until), now.timestamp() + LEEWAY_S)
        access = Access(
            sid=uuid7(now),
            sub=visitor,
            th=digest,
            iat=now.timestamp(),
            exp=int(expires),
            aud=self._audience,
            user=user,
            page=page,
            locale=locale,
        )
        return Opened(
            session=Session(access=access), access_token=sign_access(self._access_secret, access)
        )

    @property
    def _audience(self) -> str:
        return f"site:{self._account}"

    # --- checking ------------------------------------------------------------------------------

    def read(self, access_token: str, now: datetime) -> Access:
        """Read an access token, without looking anything up. Raises :class:`SiteError`."""
        return read_access(self._access_secret, access_token, self._audience, now)

    async def check(self, access: Access) -> Session:
        """Look up whether the session still holds. Raises :class:`SiteError`."""
        visitor = await self._visitors.get(self._key(access.sub))
        if visitor is not None:
            if visitor.ended or visitor.token != access.th:
                raise SiteError("auth_required", "this session was ended: open a new one")
            if visitor.blocked:
                raise SiteError("visitor_blocked", "not available")
        user = None
        if access.user:
            user = await self._users.get(self._key(access.user))
            if user is not None and user.blocked:
                raise SiteError("visitor_blocked", "not available")
            ended = user.signed_out_at if user else None
            if ended is not None and access.iat <= ended.timestamp():
                raise SiteError("auth_required", "the user was signed out: open a new session")
        return Session(access=access, visitor=visitor, user=user)

    # --- speaking ------------------------------------------------------------------------------

    async def remember(self, session: Session) -> None:
        """Make the visitor's row when it speaks for the first time; a user's mailbox is told."""
        speaker = f"{session.id}|{session.access.user}"
        if speaker in self._spoke:
            return
        if not session.verified:
            await self._change(session.access, spoke=True)
        elif session.user is not None:
            await self._tell_mailbox(session.user, spoke=True)
        self._spoke[speaker] = None
        if len(self._spoke) > _KNOWN:
            self._spoke.popitem(last=False)

    async def _change(self, access: Access, **fields: object) -> VisitorDoc:
        """Make or change the visitor's row as one step."""
        while True:
            doc = await self._visitors.get(self._key(access.sub))
            if doc is None:
                doc = replace(self._row(access.sub, access.th), **fields)
                if not await self._visitors.insert([doc]):
                    return doc
                continue
            if doc.ended or doc.token != access.th:
                raise SiteError("auth_required", "this session was ended: open a new one")
            changed = replace(doc, **fields)
            if changed == doc:
                return doc
            changed = replace(changed, rev=doc.rev + 1)
            if await self._visitors.swap(changed, {"rev": doc.rev}):
                return changed

    def _row(self, visitor: str, digest: str) -> VisitorDoc:
        return VisitorDoc(
            id=self._key(visitor),
            account=self._account,
            visitor=visitor,
            address=self._context.address_id(self.visitor_address(visitor)),
            token=digest,
            rev=1,
            expire_at=self._clock.now() + VISITOR_LIFE,
        )

    async def _slide(self, doc: VisitorDoc) -> None:
        expires = self._clock.now() + VISITOR_LIFE
        if doc.expire_at is None or expires - doc.expire_at < SEEN_EVERY:
            return
        # Somebody else's change in between moves the expiry as well, or the next visit will.
        await self._visitors.swap(
            replace(doc, expire_at=expires, rev=doc.rev + 1), {"rev": doc.rev}
        )

    # --- logging in and out --------------------------------------------------------------------

    async def identify(self, session: Session, claims: Claims) -> Opened:
        """Let the session be the user's from now on; see the rules at the top."""
        access = session.access
        doc = await self._bind(access, claims.sub)
        visitor_token = ""
        if doc.user != claims.sub:  # rule (b)
            token = new_visitor_token(self._visitor_secret, self._clock.now())
            visitor_token = token.text
            doc = replace(
                self._row(token.visitor, token.digest),
                user=claims.sub,
                bound_at=self._clock.now(),
            )
            await self._visitors.insert([doc])
        user = await self._learn(claims)
        await self._tell_the_hub(doc, claims, user.profile)
        await self._tell_mailbox(user, evidence=claims.jti)
        opened = self._opened(
            doc.visitor,
            doc.token,
            page=access.page,
            locale=access.locale or claims.locale,
            user=claims.sub,
            until=claims.exp or None,
        )
        checked = await self.check(opened.session.access)
        return replace(opened, session=checked, visitor_token=visitor_token)

    async def _bind(self, access: Access, user: str) -> VisitorDoc:
        """Bind the visitor to the user, unless it is somebody's already; return its row."""
        while True:
            doc = await self._visitors.get(self._key(access.sub))
            if doc is not None and (doc.ended or doc.token != access.th):
                raise SiteError("auth_required", "this session was ended: open a new one")
            if doc is not None and doc.user:
                return doc
            bound = replace(
                doc or self._row(access.sub, access.th), user=user, bound_at=self._clock.now()
            )
            if doc is None:
                if not await self._visitors.insert([bound]):
                    return bound
            else:
                bound = replace(bound, rev=doc.rev + 1)
                if await self._visitors.swap(bound, {"rev": doc.rev}):
                    return bound

    async def _learn(self, claims: Claims) -> UserDoc:
        """Keep what the token says of the user."""
        said = _profile(claims)
        return await self._set_user(claims.sub, **({"profile": said} if said else {}))

    async def _tell_the_hub(self, doc: VisitorDoc, claims: Claims, profile: Profile | None) -> None:
        """Link what the visitor said before it was known. Safe to repeat after a crash."""
        if doc.linked:
            return
        address = self.visitor_address(doc.visitor)
        if not doc.spoke and await self._context.address(address) is None:
            return
        await self._context.deliver(
            [
                Identity(
                    key=f"identify:{doc.visitor}:{claims.sub}",
                    address=address,
                    same_as=self.user_address(claims.sub),
                    trust=Trust.ATTESTED,
                    evidence=Evidence(
                        kind="identity_token" if claims.iat else "user_hash",
                        ref=claims.jti or (f"iat:{int(claims.iat)}" if claims.iat else ""),
                    ),
                    profile=profile,
                    role_event="contact.identified",
                )
            ]
        )
        linked = replace(doc, spoke=True, linked=True, rev=doc.rev + 1)
        if not await self._visitors.swap(linked, {"rev": doc.rev}):
            log.info("visitor_changed_while_linked", account=self._account)

    async def _tell_mailbox(
        self, user: UserDoc, *, evidence: str = "", spoke: bool = False
    ) -> None:
        """Link the mailbox that the site's server has verified. Safe to repeat after a crash."""
        box = _verified_mailbox(user.profile)
        if box is None or user.mailbox_told == box.id:
            return
        own = self.user_address(user.user)
        known = await self._context.address(own) is not None
        mailed = await self._context.address(box) is not None
        if not (spoke or known or mailed):
            return
        # Whoever is known stays who they are: a newcomer here joins the one who wrote the mails.
        address, same_as = (own, box) if mailed and not known else (box, own)
        await self._context.deliver(
            [
                Identity(
                    key=f"mailbox:{user.user}:{box.id}:{self._clock.now().isoformat()}",
                    address=address,
                    same_as=same_as,
                    trust=Trust.ATTESTED,
                    evidence=Evidence(kind="identity_token", ref=evidence, note="email_verified"),
                    profile=user.profile,
                )
            ]
        )
        await self._set_user(user.user, mailbox_told=box.id)

    async def logout(self, session: Session) -> Opened:
        """End this visitor and begin a new one: the next person at this computer is a stranger."""
        await self._change(session.access, ended=True)
        token = new_visitor_token(self._visitor_secret, self._clock.now())
        opened = self._opened(
            token.visitor, token.digest, page=session.access.page, locale=session.access.locale
        )
        return replace(opened, visitor_token=token.text)

    # --- what the site's server may do ---------------------------------------------------------

    async def sign_out(self, user: str) -> None:
        """End all sessions of a user, wherever they are."""
        await self._set_user(user, signed_out_at=self._clock.now())

    async def block(self, *, users: list[str], visitors: list[str], blocked: bool) -> None:
        for user in users:
            await self._set_user(user, blocked=blocked)
        docs = await self._visitors.get_many([self._key(each) for each in visitors])
        for doc in docs.values():
            await self._visitors.swap(
                replace(doc, blocked=blocked, rev=doc.rev + 1), {"rev": doc.rev}
            )

    async def _set_user(self, user: str, **fields: object) -> UserDoc:
        """Make or change the user's row as one step."""
        key = self._key(user)
        while True:
            held = await self._users.get(key)
            doc = held or self._unknown_user(user)
            changed = replace(doc, **fields)
            if held is None:
                if not await self._users.insert([changed]):
                    return changed
                continue
            if changed == held:
                return held
            changed = replace(changed, rev=held.rev + 1)
            if await self._users.swap(changed, {"rev": held.rev}):
                return changed

    def _unknown_user(self, user: str) -> UserDoc:
        return UserDoc(
            id=self._key(user),
            account=self._account,
            user=user,
            address=self._context.address_id(self.user_address(user)),
            rev=1,
        )

    def _key(self, ident: str) -> str:
        return f"{self._account}:{ident}"


def _verified_mailbox(profile: Profile | None) -> Address | None:
    """Return the mailbox that the site's server answers for, None if there is none."""
    if profile is None or profile.attributes.get("email_verified") != "true":
        return None
    try:
        return mailbox(profile.mailbox)
    except AddressError:
        return None


def _profile(claims: Claims) -> Profile | None:
    """Return the profile that a token carries; None when it carries none."""
    attributes = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in claims.attrs.items()
    }
    if claims.email:
        attributes["email_verified"] = "true" if claims.email_verified else "false"
    if not (claims.name or claims.email or claims.phone or claims.locale or attributes):
        return None
    return Profile(
        name=claims.name,
        locale=claims.locale,
        mailbox=claims.email,
        phone=claims.phone,
        trust=Trust.ATTESTED,
        attributes=attributes,
    )
