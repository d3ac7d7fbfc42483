"""The state machine that drives the hub and its model side by side, over any store.

Each rule gives the hub one inbox item and tells the model the same. Items pile up in a batch
until one is committed; then everything that is in the store is compared with the model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hub.documents import (
    AddressDoc,
    Conversation,
    Customer,
    Entry,
    FeedRow,
    Job,
    Link,
    Operation,
)
from hub.planning.entries import entry_id
from hub.planning.identity import address_id
from hub.store.interface import Store
from normalizer.drafts import Evidence, Identity, Message
from normalizer.model import Trust
from tests.planners.harness import PlannerHarness, said, somebody
from tests.planners.model import Line, Model, Place, Talk

T = TypeVar("T")

NAMES = ("ann", "bob", "cat", "dan")
CHANNELS = ("chat", "chat", "chat", "phone", "mail", "mail", "site", "board")
AGENT = Evidence(kind="agent")
# What vendors' clocks say, in minutes from now: late, on time, and what cannot be true.
CLOCKS = (0, 0, 0, -7, -170, -60 * 24 * 8, 60 * 24)
PAUSES = (1, 50, 60 * 20, 60 * 25, 60 * 73, 60 * 97)

who = st.sampled_from(NAMES)
which = st.integers(0, 11)
ends_batch = st.booleans()


class PlannerMachine(RuleBasedStateMachine):
    """Subclasses say which store: `open_store` and `run`."""

    hub: PlannerHarness

    def open_store(self) -> Store:
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.hub = PlannerHarness(self.open_store())
        self.run(self.hub.open())
        self.model = Model()
        self.sent: list[tuple[Message, str]] = []
        self.keys: dict[str, str] = {}  # entry id -> our key
        self.position = self.hub.position
        self.counter = 0

    def teardown(self) -> None:
        if hasattr(self, "hub") and sys.exc_info()[0] is None:
            self.commit()

    # --- helpers -----------------------------------------------------------------------------

    def number(self) -> int:
        self.counter += 1
        return self.counter

    def address(self, name: str) -> str:
        return address_id(self.hub.rules, somebody(name))

    def see(self, kind: type[Any], ident: str) -> Any:
        return self.run(self.hub.see(kind, ident))

    def command(self, name: str, **args: Any) -> Operation:
        return self.run(self.hub.command(name, commit=False, **args))

    def ensure(self, name: str) -> Place:
        """Return the place, which the hub has just made sure of."""
        place = self.model.place(self.address(name))
        if place is None:
            home = self.see(AddressDoc, self.address(name)).home
            assert home not in self.model.customers, "a newcomer needs a customer of its own"
            place = self.model.arrive(self.address(name), home)
        return place

    def pick(self, items: list[T], number: int) -> T:
        return items[number % len(items)]

    def expect(self, operation: Operation, refusal: int | None) -> bool:
        """Check whether it was refused as expected; say whether it was done."""
        told = operation.status if operation.state == "refused" else None
        assert told == refusal, operation
        return refusal is None

    def end(self, ends: bool) -> None:
        if ends:
            self.commit()

    # --- what happens ------------------------------------------------------------------------

    @rule(
        name=who,
        channel=st.sampled_from(CHANNELS),
        thread=st.sampled_from(("", "t")),
        clock=st.sampled_from(CLOCKS),
        automatic=st.sampled_from((False, False, False, True)),
        ends=ends_batch,
    )
    def message(
        self, name: str, channel: str, thread: str, clock: int, automatic: bool, ends: bool
    ) -> None:
        key = f"m{self.number()}"
        now = self.hub.now
        draft = said(
            somebody(name),
            key,
            thread=thread,
            at=now + timedelta(minutes=clock),
            automatic=automatic,
        )
        assert self.run(self.hub.give(draft, channel=channel, commit=False))
        self.sent.append((draft, channel))
        ident = entry_id(self.hub.rules, channel, "main", draft)
        self.keys[ident] = key
        entry: Entry = self.see(Entry, ident)
        place = self.ensure(name)
        at = now + timedelta(minutes=clock) if -7 * 24 * 60 <= clock <= 0 else now
        lane = entry.thread or ""
        talk = self.model.placed(place, channel, lane, at, now, not automatic)
        if talk == "new":
            talk = self.opened(entry.conversation, place, channel, lane, at)
        assert not isinstance(talk, str)
        self.model.lines[key] = Line(key, place, at, self.counter, talk)
        if talk is not None:
            self.model.jobs.add((key, talk.ident, talk.root.address))
        self.end(ends)

    def opened(
        self, ident: str | None, place: Place, channel: str, thread: str, at: datetime
    ) -> Talk:
        assert ident is not None, "a message that wakes somebody needs a conversation"
        assert ident not in [talk.ident for talk in self.model.talks], "expected a new one"
        conversation: Conversation = self.see(Conversation, ident)
        lanes = {"customer": "", "thread": thread, "channel": channel}
        assert conversation.lane == lanes[conversation.policy]
        talk = Talk(ident, place, conversation.policy, conversation.lane, at)
        talk.active = at.replace(second=0, microsecond=0)
        self.model.talks.append(talk)
        return talk

    @precondition(lambda self: self.sent)
    @rule(number=which, ends=ends_batch)
    def repeated(self, number: int, ends: bool) -> None:
        """A vendor's retry, a replay: nothing happens, whatever became of it meanwhile."""
        draft, channel = self.pick(self.sent, number)
        keep = self.run(self.hub.give(draft, channel=channel, commit=False))
        assert keep is (self.model.lines[draft.key].place.erased_with is None)
        self.end(ends)

    @rule(name=who, other=who, trust=st.sampled_from((Trust.ATTESTED, Trust.SEEN)), ends=ends_batch)
    def login(self, name: str, other: str, trust: Trust, ends: bool) -> None:
        """A channel tells that two addresses are one person's."""
        draft = Identity(
            key=f"i{self.number()}",
            address=somebody(name),
            same_as=somebody(other),
            trust=trust,
            evidence=Evidence(kind="identity_token"),
        )
        known = {each.id for each in self.run(self.hub.all(Link))}
        self.run(self.hub.give(draft, channel="site", commit=False))
        into = self.model.holder(self.ensure(other))
        place = self.ensure(name)
        if trust is Trust.ATTESTED and self.model.holder(place) != into:
            self.commit_for(known, place, into)
        self.end(ends)

    def commit_for(self, known: set[str], place: Place, into: str) -> None:
        """Find the link that an item without a result has made."""
        self.run(self.hub.flush())
        recorded = {decision.ident for decision in self.model.decisions}
        fresh = {each.id for each in self.run(self.hub.all(Link))} - known - recorded
        [ident] = fresh
        self.model.decide(ident, "link", place, into)

    @precondition(lambda self: self.model.customers)
    @rule(name=who, number=which, ends=ends_batch)
    def link(self, name: str, number: int, ends: bool) -> None:
        customer = self.pick(self.model.customers, number)
        done = self.command("link", customer=customer, address=self.address(name), evidence=AGENT)
        into = self.model.answering(customer)
        place = self.model.place(self.address(name))
        refusal = 410 if into in self.model.erased else 404 if place is None else None
        if self.expect(done, refusal):
            assert place is not None
            assert done.result["customer"] == into
            if self.model.holder(place) == into:
                assert done.result["link"] is None
            else:
                self.model.decide(done.result["link"], "link", place, into)
        self.end(ends)

    @rule(name=who, ends=ends_batch)
    def separate(self, name: str, ends: bool) -> None:
        done = self.command("separate", address=self.address(name), evidence=AGENT)
        place = self.model.place(self.address(name))
        if place is None:
            refusal: int | None = 404
        else:
            refusal = None if len(self.model.held(self.model.holder(place))) > 1 else 422
        if self.expect(done, refusal):
            assert place is not None
            fresh = done.result["customer"]
            assert fresh not in self.model.customers
            self.model.customers.append(fresh)
            self.model.decide(done.result["link"], "link", place, fresh)
        self.end(ends)

    @precondition(lambda self: self.model.customers)
    @rule(number=which, other=which, ends=ends_batch)
    def merge(self, number: int, other: int, ends: bool) -> None:
        winner = self.pick(self.model.customers, number)
        loser = self.pick(self.model.customers, other)
        done = self.command("merge", customer=winner, other=loser, evidence=AGENT)
        into, away = self.model.answering(winner), self.model.answering(loser)
        gone = into in self.model.erased or away in self.model.erased
        if self.expect(done, 410 if gone else 422 if into == away else None):
            self.model.decide(done.result["link"], "merge", away, into)
        self.end(ends)

    @precondition(lambda self: self.model.decisions)
    @rule(number=which, ends=ends_batch)
    def undo(self, number: int, ends: bool) -> None:
        decision = self.pick(self.model.decisions, number)
        name = "unmerge" if decision.kind == "merge" else "unlink"
        done = self.command(name, link=decision.ident)
        self.expect(done, None if self.model.undo(decision, self.hub.now) else 410)
        self.end(ends)

    @precondition(lambda self: self.model.talks)
    @rule(number=which, ends=ends_batch)
    def close(self, number: int, ends: bool) -> None:
        talk = self.pick(self.model.talks, number)
        self.expect(self.command("close", conversation=talk.ident), None)
        if talk.closed is None:
            talk.closed, talk.closed_by = self.hub.now, "agent"
        self.end(ends)

    @precondition(lambda self: self.model.talks)
    @rule(number=which, ends=ends_batch)
    def reopen(self, number: int, ends: bool) -> None:
        talk = self.pick(self.model.talks, number)
        done = self.command("reopen", conversation=talk.ident)
        refused = talk.closed is not None and talk.final
        if self.expect(done, 409 if refused else None) and talk.closed is not None:
            talk.closed, talk.closed_by = None, ""
            self.model.said_in(talk, self.hub.now)
        self.end(ends)

    @precondition(lambda self: self.model.talks)
    @rule(number=which, take=st.lists(which, min_size=1, max_size=3), ends=ends_batch)
    def split(self, number: int, take: list[int], ends: bool) -> None:
        talk = self.pick(self.model.talks, number)
        inside = [
            line
            for line in self.model.lines.values()
            if line.talk is talk and line.place.erased_with is None
        ]
        if not inside:
            return
        chosen = list({id(line): line for line in (self.pick(inside, n) for n in take)}.values())
        ids = {key: ident for ident, key in self.keys.items()}
        done = self.command(
            "split", conversation=talk.ident, entries=[ids[line.key] for line in chosen]
        )
        if self.expect(done, 409 if talk.final else None):
            root = min(chosen, key=lambda line: (line.at, line.number)).place
            fresh = Talk(done.result["conversation"], root, talk.policy, talk.lane, self.hub.now)
            self.model.talks.append(fresh)
            for line in chosen:
                line.talk = fresh
                self.model.jobs.add((line.key, fresh.ident, root.address))
            self.model.said_in(fresh, self.hub.now)
            fresh.active = fresh.active.replace(second=0, microsecond=0)
        self.end(ends)

    @precondition(lambda self: self.model.talks)
    @rule(number=which, other=which, ends=ends_batch)
    def join(self, number: int, other: int, ends: bool) -> None:
        away, into = self.pick(self.model.talks, number), self.pick(self.model.talks, other)
        done = self.command("join", conversation=away.ident, into=into.ident)
        refusal: int | None = None
        if away is into or self.model.owner(away) != self.model.owner(into):
            refusal = 422
        elif away.final or into.final:
            refusal = 409
        if self.expect(done, refusal):
            away.final = True
            if away.closed is None:
                away.closed, away.closed_by = self.hub.now, "joined"
            if into.closed is not None:
                into.closed, into.closed_by = None, ""
                self.model.said_in(into, self.hub.now)
        self.end(ends)

    @precondition(lambda self: self.model.customers)
    @rule(number=which, sure=st.sampled_from((True, False, False)), ends=ends_batch)
    def erase(self, number: int, sure: bool, ends: bool) -> None:
        if not sure:
            return
        customer = self.pick(self.model.customers, number)
        self.expect(self.command("erase", customer=customer), None)
        self.model.erase(customer, self.hub.now)
        self.end(ends)

    @rule(minutes=st.sampled_from(PAUSES))
    def time_passes(self, minutes: int) -> None:
        self.commit()
        self.hub.later(minutes=minutes)

    @rule()
    def another_router_takes_over(self) -> None:
        self.commit()
        self.run(self.hub.take_over())

    # --- what has to hold --------------------------------------------------------------------

    def commit(self) -> None:
        self.run(self.hub.flush())
        self.run(self.compare())

    async def compare(self) -> None:
        addresses = {each.id: each for each in await self.hub.all(AddressDoc)}
        customers = {each.id: each for each in await self.hub.all(Customer)}
        entries = {each.id: each for each in await self.hub.all(Entry)}
        conversations = {each.id: each for each in await self.hub.all(Conversation)}
        self.compare_customers(addresses, customers)
        self.compare_entries(addresses, customers, entries)
        self.compare_conversations(addresses, customers, conversations)
        self.compare_jobs(await self.hub.all(Job))
        self.compare_feed(await self.hub.store.table(FeedRow).find({"_id": {"$gt": self.position}}))

    def compare_customers(
        self, addresses: dict[str, AddressDoc], customers: dict[str, Customer]
    ) -> None:
        model = self.model
        public = {ident for ident, each in addresses.items() if not each.private}
        assert public == {place.address for place in model.places}
        owners = {
            place.address: model.holder(place)
            for place in model.places
            if place.erased_with is None
        }
        assert {i: addresses[i].customer for i in public} == {i: owners.get(i) for i in public}
        assert set(customers) == set(model.customers)
        for ident, customer in customers.items():
            assert customer.erased is (ident in model.erased)
            if customer.erased:
                assert (customer.addresses, customer.open, customer.last_closed) == ((), (), ())
                continue
            assert set(customer.addresses) & public == {i for i, o in owners.items() if o == ident}
            assert {addresses[i].customer for i in customer.addresses} <= {ident}
            assert answering(customers, ident) == model.answering(ident)
            if customer.alias_of:
                assert not customer.addresses
        for address in addresses.values():
            assert address.erased is (address.customer is None)
            if address.customer:
                owner = customers[address.customer]
                assert address.id in owner.addresses
                assert owner.alias_of is None

    def compare_entries(
        self,
        addresses: dict[str, AddressDoc],
        customers: dict[str, Customer],
        entries: dict[str, Entry],
    ) -> None:
        said_ = {self.keys[ident]: each for ident, each in entries.items() if ident in self.keys}
        assert set(said_) == set(self.model.lines)
        assert {each.kind for ident, each in entries.items() if ident not in self.keys} <= {"note"}
        for key, line in self.model.lines.items():
            entry = said_[key]
            assert entry.at == line.at
            assert entry.erased is (line.place.erased_with is not None)
            if entry.erased:
                assert (entry.address, entry.parts, entry.conversation) == ("", (), None)
            else:
                assert entry.address == line.place.address
                assert entry.conversation == (line.talk.ident if line.talk else None)
        for ident, customer in customers.items():
            if customer.erased or customer.alias_of:
                continue
            page = [
                each
                for each in entries.values()
                if each.address in customer.addresses and not addresses[each.address].private
            ]
            page.sort(key=lambda each: (each.at, each.position))
            assert [self.keys[each.id] for each in page] == self.model.lines_of(ident)

    def compare_conversations(
        self,
        addresses: dict[str, AddressDoc],
        customers: dict[str, Customer],
        conversations: dict[str, Conversation],
    ) -> None:
        assert set(conversations) == {talk.ident for talk in self.model.talks}
        open_ones: dict[str, list[str]] = {}
        for talk in self.model.talks:
            conversation = conversations[talk.ident]
            assert conversation.root == talk.root.address
            assert conversation.customer == self.model.owner(talk)
            assert conversation.state == ("open" if talk.closed is None else "closed")
            assert conversation.final == talk.final
            assert conversation.active_at == talk.active
            if talk.closed is None:
                open_ones.setdefault(conversation.customer, []).append(talk.ident)
        for ident, customer in customers.items():
            assert list(customer.open) == sorted(open_ones.get(ident, []))

    def compare_jobs(self, jobs: list[Job]) -> None:
        made = {
            (self.keys[job.entry or ""], job.conversation, job.lane)
            for job in jobs
            if job.task == "append"
        }
        assert made == {(key, talk, f"ticket:desk:{root}") for key, talk, root in self.model.jobs}

    def compare_feed(self, rows: list[FeedRow]) -> None:
        positions = sorted(row.id for row in rows)
        assert positions == list(range(self.position + 1, self.position + 1 + len(rows)))
        self.position += len(rows)


def answering(customers: dict[str, Customer], ident: str) -> str:
    """Follow aliases; a ring of them would never end."""
    for _ in range(len(customers) + 1):
        into = customers[ident].alias_of
        if into is None:
            return ident
        ident = into
    raise AssertionError(f"the aliases of {ident} lead in a circle")


def machine_for(
    open_store: Callable[[], Store], run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> type[PlannerMachine]:
    """Return the machine over one kind of store, which `open_store` makes empty each time."""

    class Machine(PlannerMachine):
        def open_store(self) -> Store:
            return open_store()

        def run(self, work: Coroutine[Any, Any, T]) -> T:
            result: T = run(work)
            return result

    return Machine
