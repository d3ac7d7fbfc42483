"""One-time codes: who tells one is linked, once; guessing, erasing and undoing are thought of.

The planner is real, over the in-memory store.
"""

from __future__ import annotations

from typing import Any

import pytest

from hub.documents import (
    AddressDoc,
    CodeTries,
    Conversation,
    Customer,
    Entry,
    IdentityCode,
    InboxItem,
    Job,
    Link,
)
from hub.planning.codes import (
    ISSUED_TO_CUSTOMER,
    TRIES,
    WRONG_BY_ADDRESS,
    WRONG_IN_SPACE,
    code_in,
    code_of,
    digits_of,
)
from normalizer.addresses import Address, canonical
from normalizer.drafts import Actor, Command
from normalizer.model import Direction
from normalizer.parts import Text
from tests.planners.harness import PlannerHarness, said, somebody

WRONG = "00000000"
CALLER = Address(scheme="tel", kind="e164", id="+8613800138000")


class World(PlannerHarness):
    """Ann writes on chat; Ann's second address, on the phone channel, is bob until she tells."""

    async def begin(self) -> World:
        await self.open()
        await self.give(said("ann", "m1"))
        await self.give(said("bob", "m2", channel="phone"), channel="phone")
        return self

    def ident(self, who: str | Address, channel: str = "chat") -> str:
        address = somebody(who, channel) if isinstance(who, str) else who
        return self.key.hashed("adr", canonical(address))

    async def owner(self, who: str | Address, channel: str = "chat") -> str:
        return (await self.see(AddressDoc, self.ident(who, channel))).customer or ""

    async def issue(self, key: str = "k1", **args: Any) -> str:
        """Make a code for Ann, as the API does, and return it."""
        customer = args.pop("customer", None) or await self.owner("ann")
        await self.give(self.draft("identity.code.issue", key, customer=customer, **args))
        operation = await self.operation(key)
        assert operation.state == "done", operation
        result = operation.result
        return code_of(self.key, key, result["turn"], result["digits"])

    async def tell(self, text: str, key: str, who: str = "bob", channel: str = "phone") -> None:
        await self.give(said(who, key, text, channel=channel), channel=channel)

    async def identified(self) -> list[Entry]:
        return await self.store.table(Entry).find({"event": "contact.identified"})

    async def same(self) -> bool:
        return await self.owner("ann") == await self.owner("bob", "phone")


@pytest.fixture
async def world() -> World:
    return await World().begin()


# --- the way it goes -----------------------------------------------------------------------------


async def test_a_message_that_is_the_code_links_its_address_and_says_so(world: World) -> None:
    code = await world.issue()
    assert len(code) == 8
    await world.tell(f"  {code}\n", "m3")
    assert await world.same()
    (link,) = await world.all(Link)
    assert (link.evidence.kind, link.trust) == ("code", "attested")
    (entry,) = await world.identified()
    assert entry.address == world.ident("bob", "phone")
    assert entry.data == {"evidence": "code", "link": link.id}

    await world.done("unlink", link=link.id)
    assert not await world.same(), "it is undone as any other link"


async def test_a_newcomers_code_joins_the_conversation_that_is_open_instead_of_a_second(
    world: World,
) -> None:
    """Nobody has to answer a code."""
    before = await world.all(Conversation)
    await world.tell(await world.issue(), "m3", who="cat")
    assert await world.owner("cat", "phone") == await world.owner("ann")
    after = await world.all(Conversation)
    assert {each.id for each in after} == {each.id for each in before}
    (told,) = await world.store.table(Entry).find(
        {"address": world.ident("cat", "phone"), "kind": {"$exists": False}}
    )
    (asked,) = await world.store.table(Entry).find(
        {"address": world.ident("ann"), "kind": {"$exists": False}}
    )
    assert told.conversation == asked.conversation


async def test_a_code_is_kept_nowhere_but_in_the_hands_of_whoever_asked(world: World) -> None:
    code = await world.issue()
    kinds = (IdentityCode, InboxItem, CodeTries, Entry)
    kept = [await world.store.table(kind).find({}) for kind in kinds]
    assert code not in repr([*kept, await world.operation("k1")])


async def test_the_same_command_makes_the_same_code_and_another_another(world: World) -> None:
    first = await world.issue("k1")
    assert await world.issue("k1") == first
    assert await world.issue("k2") != first
    assert len(await world.all(IdentityCode)) == 2


async def test_a_phone_menu_tells_a_code_for_a_number_that_was_never_heard(world: World) -> None:
    code = await world.issue(digits=6)
    confirm = Command(
        key="phone:main:call1:code:1",
        name="identity.code.confirm",
        actor=Actor(kind="connector", id="phone:main"),
        args={"code": code, "address": canonical(CALLER)},
    )
    for _ in range(2):  # the vendor delivers twice
        await world.give(confirm, channel="phone")
    result = (await world.operation(confirm.key)).result
    assert (result["confirmed"], result["reason"]) == (True, "")
    assert await world.owner(CALLER) == await world.owner("ann")
    assert len(await world.identified()) == 1


async def test_who_is_linked_already_is_confirmed_without_another_link(world: World) -> None:
    await world.issue("k1")
    code = await world.issue("k2")
    await world.tell(code, "m3")
    again = await world.issue("k3", address=world.ident("ann"))
    await world.tell(again, "m4")
    assert len(await world.all(Link)) == 1
    assert len(await world.identified()) == 2


async def test_the_hub_sends_the_code_to_a_linked_address_as_an_answer(world: World) -> None:
    code = await world.issue(address=world.ident("ann"), send=True, text="码 {code}!")
    (entry,) = await world.store.table(Entry).find({"direction": Direction.OUT})
    assert entry.parts == (Text(text=f"码 {code}!"),)
    (job,) = await world.store.table(Job).find({"kind": "send"})
    assert job.entry == entry.id
    await world.tell(code, "m3", "ann", "chat")
    assert not await world.identified(), "told where it was sent, it proves nothing"
    await world.tell(code, "m4")
    assert await world.same()


async def test_a_code_for_an_address_is_for_whoever_has_it_by_then(world: World) -> None:
    code = await world.issue(address=world.ident("ann"))
    separated = await world.command("separate", address=world.ident("ann"), evidence={"kind": "x"})
    assert separated.state == "refused"  # her only one: so somebody else merges her instead
    await world.give(said("dora", "m9"))
    await world.done(
        "merge",
        customer=await world.owner("dora"),
        other=await world.owner("ann"),
        evidence={"kind": "agent"},
    )
    await world.tell(code, "m3")
    assert await world.owner("bob", "phone") == await world.owner("dora")


# --- what does not count -------------------------------------------------------------------------


async def test_used_expired_and_wrong_codes_link_nobody(world: World) -> None:
    code = await world.issue()
    await world.tell(WRONG, "m3")
    assert not await world.same()
    await world.tell(code, "m4")
    await world.give(said("carl", "m5", code))
    assert await world.owner("carl") != await world.owner("ann"), "it is good once"
    late = await world.issue("k2")
    world.later(minutes=10)
    await world.give(said("carl", "m6", late))
    assert await world.owner("carl") != await world.owner("ann"), "and for ten minutes"
    assert len(await world.identified()) == 1


async def test_a_code_counts_on_its_channel_only_and_not_in_public(world: World) -> None:
    code = await world.issue(channel="phone")
    await world.give(said("carl", "m3", code))
    await world.give(said("carl", "m4", code, automatic=True))
    await world.give(said("bob", "m5", code, channel="phone", public=True), channel="phone")
    assert not await world.identified()
    await world.tell(code, "m6")
    assert await world.same()


async def test_a_right_code_told_in_the_wrong_places_is_used_up(world: World) -> None:
    code = await world.issue(channel="phone")
    for count in range(TRIES):
        await world.give(said(f"c{count}", f"m1{count}", code))
    await world.tell(code, "m3")
    assert not await world.same()


async def test_whoever_guesses_has_to_wait(world: World) -> None:
    code = await world.issue(minutes=60)
    for count in range(WRONG_BY_ADDRESS):
        await world.tell(f"{count:08}", f"g{count}")
    await world.tell(code, "m3")
    assert not await world.same(), "even the right one is not heard for a while"
    told = await world.done("identity.code.confirm", code=code, address=world.ident("bob", "phone"))
    assert (told["confirmed"], told["reason"]) == (False, "rate-limited")
    world.later(minutes=15)
    await world.tell(code, "m4")
    assert await world.same()


async def test_many_who_guess_a_little_are_too_many(world: World) -> None:
    code = await world.issue(minutes=60)
    ident = world.key.hashed("cot", "space")
    counts = await world.see(CodeTries, ident)
    crowd = CodeTries(
        id=ident, since=counts.since, wrong=WRONG_IN_SPACE, open_until=counts.open_until
    )
    await world.store.table(CodeTries).put([crowd])
    await world.tell(code, "m3")
    assert not await world.same()


async def test_numbers_that_customers_send_cost_nothing_while_no_code_is_open(
    world: World,
) -> None:
    for count in range(WRONG_BY_ADDRESS + 1):
        await world.tell(f"2024000{count}", f"g{count}")
    assert not await world.all(CodeTries)
    code = await world.issue()
    await world.tell(code, "m3")
    assert await world.same()


async def test_one_customer_gets_so_many_codes_and_no_more(world: World) -> None:
    for count in range(ISSUED_TO_CUSTOMER):
        await world.issue(f"k{count}")
    customer = await world.owner("ann")
    assert await world.refused("identity.code.issue", customer=customer) == (429, "rate-limited")
    world.later(minutes=15)
    await world.issue("later")


@pytest.mark.parametrize("args", [{"address": "ann"}, {}], ids=["for an address", "for a customer"])
async def test_an_erased_persons_code_links_nobody_even_in_a_later_life(
    world: World, args: dict[str, str]
) -> None:
    if args:
        args = {"address": world.ident("ann")}
    code = await world.issue(minutes=60, **args)
    await world.done("erase", customer=await world.owner("ann"))
    world.later(minutes=1)
    await world.give(said("ann", "m8"))
    await world.tell(code, "m3")
    assert not await world.same()
    bob = await world.owner("bob", "phone")
    assert (await world.see(Customer, bob)).alias_of is None


@pytest.mark.parametrize(
    ("args", "status"),
    [
        ({"customer": "cus_00000000000000000000000000"}, 404),
        ({"address": "bob"}, 404),
        ({"send": True}, 422),
        ({"send": True, "address": "ann", "text": "no blank"}, 422),
        ({"digits": 3}, 422),
    ],
    ids=str,
)
async def test_what_cannot_be_made_is_refused(
    world: World, args: dict[str, Any], status: int
) -> None:
    if "address" in args:
        channel = "phone" if args["address"] == "bob" else "chat"
        args = {**args, "address": world.ident(args["address"], channel)}
    args.setdefault("customer", await world.owner("ann"))
    assert (await world.refused("identity.code.issue", **args))[0] == status
    assert not await world.all(IdentityCode)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("12345678", "12345678"),
        (" １２３４５６７８\n", "12345678"),
        ("١٢٣٤٥٦٧٨", "12345678"),
        ("1234 5678", ""),
        ("12345", ""),
        ("1234567890123", ""),
        ("code 12345678", ""),
        ("²³⁴⁵⁶⁷⁸⁹", ""),
        ("", ""),
    ],
)
def test_what_is_a_code(text: str, code: str) -> None:
    assert digits_of(text) == code
    assert code_in((Text(text=text),)) == code
    assert code_in((Text(text=text), Text(text="more"))) == ""
