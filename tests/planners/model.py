"""What the planners should come to, computed the slow way: a list of all that happened.

Written on its own, to be compared with `identity` and `conversations` of `hub/planning/`:
nothing is kept that can be worked out again from the beginning. People are
known by the ids that the hub gave them, so that both can be compared; a place that was erased and
comes back is another place here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

SILENCE = timedelta(hours=72)
REOPEN = timedelta(hours=24)
POLICY = {"chat": "customer", "phone": "customer", "mail": "thread", "site": "customer"}


@dataclass(eq=False)
class Place:
    """An address in one of its lives."""

    address: str
    home: str
    erased_with: str | None = None


@dataclass(eq=False)
class Decision:
    ident: str
    kind: str  # link or merge
    subject: Place | str
    into: str
    former: str | None
    undone: datetime | None = None
    final: bool = False  # somebody it is about was erased


@dataclass(eq=False)
class Talk:
    """A conversation."""

    ident: str
    root: Place
    policy: str
    lane: str
    active: datetime
    closed: datetime | None = None
    closed_by: str = ""
    final: bool = False


@dataclass(eq=False)
class Line:
    """An entry."""

    key: str
    place: Place
    at: datetime
    number: int
    talk: Talk | None


@dataclass(frozen=True)
class Moment:
    """Who is who at one moment."""

    merged: dict[str, str]  # customer -> whom its merges made it
    holders: dict[Place, str]

    def after(self, decision: Decision) -> Moment:
        into = self.merged[decision.into]
        if isinstance(decision.subject, Place):
            return Moment(self.merged, self.holders | {decision.subject: into})
        away = self.merged[decision.subject]
        return Moment(
            {each: into if now == away else now for each, now in self.merged.items()},
            {each: into if now == away else now for each, now in self.holders.items()},
        )


@dataclass
class Model:
    places: list[Place] = field(default_factory=list)
    customers: list[str] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)
    lines: dict[str, Line] = field(default_factory=dict)
    jobs: set[tuple[str, str, str]] = field(default_factory=set)  # entry, conversation, root
    _known: object = None
    _history: tuple[list[Decision], list[Moment]] = field(default_factory=lambda: ([], []))

    # --- who is who ------------------------------------------------------------------------------

    def place(self, address: str) -> Place | None:
        for place in self.places:
            if place.address == address and place.erased_with is None:
                return place
        return None

    def history(self) -> tuple[list[Decision], list[Moment]]:
        """Return the decisions that stand, and who was who before each of them and after all."""
        standing = [decision for decision in self.decisions if not decision.undone]
        known = (tuple(each.ident for each in standing), len(self.places), len(self.customers))
        if self._known != known:
            moments = [
                Moment(
                    {customer: customer for customer in self.customers},
                    {place: place.home for place in self.places},
                )
            ]
            for decision in standing:
                moments.append(moments[-1].after(decision))
            self._known, self._history = known, (standing, moments)
        return self._history

    def holder(self, place: Place) -> str:
        return self.history()[1][-1].holders[place]

    def answering(self, customer: str) -> str:
        """Return the customer that a customer's id leads to."""
        standing, moments = self.history()
        merged = moments[-1].merged[customer]
        if merged != customer:
            return self.answering(merged)
        if self.held(customer) or customer in self.erased:
            return customer
        heirs: list[str] = []
        undone = [(each.undone, -n) for n, each in enumerate(self.decisions) if each.undone]
        for _, number in sorted(undone):  # of several at one time, the first decision counts
            into, subject = self.decisions[-number].into, self.decisions[-number].subject
            if into == customer and isinstance(subject, Place) and not subject.erased_with:
                heirs = [self.holder(subject)]
        for decision, before, after in zip(standing, moments, moments[1:], strict=False):
            if isinstance(decision.subject, Place):
                left, into = before.holders[decision.subject], after.holders[decision.subject]
                if left == customer != into and into not in self.erased:
                    heirs.append(into)
        return self.answering(heirs[-1]) if heirs else customer

    def held(self, customer: str) -> list[Place]:
        return [
            place
            for place in self.places
            if place.erased_with is None and self.holder(place) == customer
        ]

    def arrive(self, address: str, home: str) -> Place:
        place = Place(address, home)
        self.places.append(place)
        self.customers.append(home)
        return place

    def decide(self, ident: str, kind: str, subject: Place | str, into: str) -> None:
        former = self.holder(subject) if isinstance(subject, Place) else None
        self.decisions.append(Decision(ident, kind, subject, into, former))

    def undo(self, decision: Decision, now: datetime) -> bool:
        """Take a decision back; say whether that is still possible."""
        if decision.undone:
            return True
        if decision.final:
            return False
        decision.undone = now
        if any(self.holder(p) in self.erased for p in self.places if p.erased_with is None):
            decision.undone = None
            return False
        return True

    def erase(self, customer: str, now: datetime) -> None:
        customer = self.answering(customer)
        if customer in self.erased:
            return
        gone = {each for each in self.customers if self.answering(each) == customer}
        places = self.held(customer)
        for talk in self.talks:
            if talk.root in places:
                talk.closed_by, talk.final = "erased", True
                talk.closed = talk.closed or now
        for decision in self.decisions:
            about = {decision.into, decision.former, decision.subject}
            decision.final |= not decision.undone and bool(about & {*gone, *places})
        for place in places:
            place.erased_with = customer
        self.erased |= gone

    # --- conversations ---------------------------------------------------------------------------

    def owner(self, talk: Talk) -> str:
        return talk.root.erased_with or self.holder(talk.root)

    def talks_of(self, customer: str, *, closed: bool) -> list[Talk]:
        found = [talk for talk in self.talks if self.owner(talk) == customer]
        return [talk for talk in found if (talk.closed is not None) is closed]

    def placed(
        self, place: Place, channel: str, thread: str, at: datetime, now: datetime, wakes: bool
    ) -> Talk | str | None:
        """Return the conversation of a message, "new" for a new one, or None."""
        customer = self.holder(place)
        policy = POLICY.get(channel, "channel")
        lane = {"customer": "", "thread": thread, "channel": channel}[policy]

        def fits(talk: Talk) -> bool:
            return (talk.policy, talk.lane) == (policy, lane)

        for talk in sorted(self.talks_of(customer, closed=False), key=lambda t: t.ident)[::-1]:
            if fits(talk):
                if at - talk.active <= SILENCE:
                    return self.said_in(talk, at)
                talk.closed, talk.closed_by = now, "silence"
        if not wakes:
            return None
        recent: list[tuple[datetime, str, Talk]] = []
        for talk in self.talks_of(customer, closed=True):
            assert talk.closed is not None
            since = talk.closed
            if talk.closed_by == "silence":
                since = min(since, talk.active + SILENCE)
            if fits(talk) and not talk.final and at - since <= REOPEN:
                recent.append((talk.closed, talk.ident, talk))
        if not recent:
            return "new"
        talk = max(recent, key=lambda each: each[:2])[2]
        talk.closed, talk.closed_by = None, ""
        return self.said_in(talk, at)

    def said_in(self, talk: Talk, at: datetime) -> Talk:
        talk.active = max(talk.active, at.replace(second=0, microsecond=0))
        return talk

    def lines_of(self, customer: str) -> list[str]:
        mine = [
            line
            for line in self.lines.values()
            if line.place.erased_with is None and self.holder(line.place) == customer
        ]
        return [line.key for line in sorted(mine, key=lambda line: (line.at, line.number))]
