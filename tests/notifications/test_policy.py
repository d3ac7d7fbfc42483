"""What the settings make of purposes: their own defaults, changes, mistakes with a remedy."""

from __future__ import annotations

import pytest

from hub.config import ConfigError, load_text
from hub.notifications.caps import Cap
from hub.notifications.policy import DAY, DEFAULT, WEEK, Policy, policy_of


def read(text: str) -> Policy:
    return policy_of(load_text(f"[hub.notifications]\n{text}").hub.notifications)


def test_transactional_needs_no_grant_and_marketing_does() -> None:
    transactional, marketing = DEFAULT.purposes["transactional"], DEFAULT.purposes["marketing"]
    assert (transactional.needs_grant, transactional.caps) == (False, ())
    assert transactional.may_disturb
    assert (marketing.needs_grant, marketing.may_disturb) == (True, False)
    assert marketing.caps == (Cap(3, DAY), Cap(10, WEEK))
    assert str(transactional.quiet) == str(marketing.quiet) == "21:00-08:00"
    assert DEFAULT.time_zone == "Asia/Shanghai"


def test_a_purpose_of_ones_own_is_handled_with_care() -> None:
    policy = read("[hub.notifications.purposes.survey]\nper_day = 1\n")
    survey = policy.purposes["survey"]
    assert survey.needs_grant
    assert not survey.may_disturb
    assert survey.caps == (Cap(1, DAY), Cap(10, WEEK))
    assert set(policy.purposes) == {"transactional", "marketing", "survey"}


def test_a_change_of_one_thing_leaves_the_others() -> None:
    policy = read(
        'quiet_hours = "22:00-07:00"\n'
        "[hub.notifications.purposes.transactional]\nper_day = 5\n"
        '[hub.notifications.purposes.marketing]\nquiet_hours = "none"\nper_week = 0\n'
    )
    transactional, marketing = policy.purposes["transactional"], policy.purposes["marketing"]
    assert not transactional.needs_grant
    assert transactional.may_disturb
    assert transactional.caps == (Cap(5, DAY),)
    assert str(transactional.quiet) == "22:00-07:00"
    assert marketing.quiet is None
    assert marketing.caps == (Cap(3, DAY),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('time_zone = "Asia/Shangai"', "there is no time zone of this name"),
        ('time_zone = "../x"', "there is no time zone of this name"),
        ('quiet_hours = "9pm"', 'expected a span of the day such as "21:00-08:00"'),
        ('quiet_hours = "21:00-21:00"', 'Write "none" for no quiet hours'),
        ('purposes.survey.quiet_hours = "08:00-08:00"', "purposes.survey.quiet_hours"),
        ('purposes.survey.consent = "maybe"', 'one of "granted", "unless-withdrawn"'),
        ("purposes.survey.per_day = -1", "per_day"),
        ("purposes.survey.per_month = 1", "unknown key"),
        ("purposes.Survey.per_day = 1", "Survey"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "hub.notifications" in str(caught.value)
    assert told in str(caught.value)
