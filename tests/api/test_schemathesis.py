"""The API keeps to its OpenAPI document whatever it is sent: schemathesis tries, a hub answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from hub.documents import DeadLetter
from tests.support.hubs import RunningHub

FULL = os.environ.get("OMNILINE_SCALE") == "full"
EXAMPLES = 200 if FULL else 8
SECONDS = 1800 if FULL else 300
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
HOOKS = "tests.api.schemathesis_hooks"


async def known_ids(api: RunningHub) -> dict[str, list[str]]:
    """Let things happen, and return ids of each kind."""
    entries = [
        await api.message(f"n{number}", sender=f"s{number}", account="main") for number in range(12)
    ]
    customers = [await api.customer(f"s{number}") for number in range(12)]
    operations = []
    for customer in customers:
        body = {"parts": [{"type": "text", "text": "hi"}]}
        replied = await api.post(f"/api/v1/customers/{customer}/replies", body)
        operations.append(replied.json["operation"])
    merged = await api.post(f"/api/v1/customers/{customers[0]}/merge", {"other": customers[1]})
    uploaded = await api.call("POST", "/api/v1/attachments", data=b"a text")
    await api.push(b"no JSON at all")
    letters = await api.until(
        "a dead letter", lambda: api.hub.store.table(DeadLetter).find({"state": "open"})
    )
    conversations = [entry.conversation for entry in entries if entry.conversation]
    return {
        "customer": customers,
        "entry": [entry.id for entry in entries],
        "conversation": conversations,
        "operation": operations,
        "link": [merged.json["link"]["id"]],
        "attachment": [uploaded.json["id"]],
        "letter": [letter.id for letter in letters],
        "account": ["sample:second"],
        "thing": [*(entry.id for entry in entries), *(entry.source for entry in entries)],
    }


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 60)
async def test_no_request_is_answered_otherwise_than_the_document_says(
    api: RunningHub, tmp_path: Path
) -> None:
    """No 5xx, and no status, type or body that the document does not name."""
    command = Path(sys.executable).with_name("schemathesis")
    if not command.exists():
        if os.environ.get("OMNILINE_REQUIRE_REAL") == "1":
            pytest.fail("OMNILINE_REQUIRE_REAL=1, and schemathesis is not installed")
        pytest.skip("NO SCHEMATHESIS, so the API is not held to its document")
    ids = await known_ids(api)
    process = await asyncio.create_subprocess_exec(
        str(command),
        "run",
        f"{api.hub.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {api.key}",
        "--checks",
        ",".join(CHECKS),
        "--phases",
        "examples,coverage,fuzzing",
        "--exclude-path",
        "/feed/v1/stream",  # it does not end by itself
        "--exclude-operation-id",
        "delete_keys_key",  # it would revoke the key it uses, which it finds in the list
        "--max-examples",
        str(EXAMPLES),
        "--seed",
        "1",
        "--request-timeout",
        "10",
        "--continue-on-failure",
        "--no-color",
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": HOOKS,
            "OMNILINE_TEST_IDS": json.dumps(ids),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONWARNINGS": "",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    assert process.returncode == 0, text[-20_000:]
    assert "Authentication failed" not in text, text[-20_000:]
    passed = re.search(r"(\d+) generated, (\d+) passed", text)
    assert passed is not None, text[-20_000:]
    assert passed[1] == passed[2]
    assert int(passed[1]) > 1000
