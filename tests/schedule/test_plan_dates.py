"""When a plan fires, by Prefect's own schedules, daylight saving included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flows.schedule import Plan, parse_interval, parse_timezone
from flows.schedule_service import check_cron, next_dates
from mno.core.errors import InputError

MARCH = "2027-03-27T12:00:00+00:00"  # the day before clocks go forward in Europe
OCTOBER = "2026-10-24T12:00:00+00:00"  # and before they go back


def fires(plan: Plan, after: str, count: int) -> list[str]:
    dates = next_dates(plan, datetime.fromisoformat(after), count)
    return [date.astimezone(UTC).strftime("%m-%d %H:%M") for date in dates]


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "expected"),
    [
        # Three in the morning is three in the morning, whatever the offset.
        ("0 3 * * *", "Europe/Berlin", MARCH, ["03-28 01:00", "03-29 01:00"]),
        ("0 3 * * *", "Europe/Berlin", "2027-03-26T12:00:00+00:00", ["03-27 02:00", "03-28 01:00"]),
        ("0 3 * * *", "Europe/Berlin", OCTOBER, ["10-25 02:00", "10-26 02:00"]),
        # Half past two does not exist on 28 March: it runs an hour later, once.
        ("30 2 * * *", "Europe/Berlin", MARCH, ["03-28 01:30", "03-29 00:30"]),
        # It comes twice on 25 October: it runs the first time only.
        ("30 2 * * *", "Europe/Berlin", OCTOBER, ["10-25 00:30", "10-26 01:30"]),
        ("0 3 * * *", "Asia/Tokyo", MARCH, ["03-27 18:00", "03-28 18:00"]),
    ],
)
def test_a_cron_keeps_to_the_clock_of_its_time_zone(
    cron: str, timezone: str, after: str, expected: list[str]
) -> None:
    assert fires(Plan(cron=cron, timezone=timezone), after, 2) == expected


def test_an_interval_counts_on_across_a_change_of_clocks() -> None:
    plan = Plan(interval=6 * 3600.0, timezone="Europe/Berlin", since="2027-03-27T15:00:00+00:00")
    dates = next_dates(plan, datetime.fromisoformat("2027-03-27T16:00:00+00:00"), 3)
    assert dates[1] - dates[0] == dates[2] - dates[1] == timedelta(hours=6)

    plan = Plan(cron="0 3 * * *", timezone="UTC")
    (first,) = next_dates(plan, datetime.fromisoformat(MARCH))
    (second,) = next_dates(plan, first)  # a date is after the moment it is asked for
    assert (second - first).total_seconds() == 86400


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1h", 3600), ("2d", 172800)])
def test_intervals_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1h", "1 fortnight", "900d", "h"])
def test_no_interval_says_what_one_is(text: str) -> None:
    with pytest.raises(InputError, match="30m, 1h or 2d"):
        parse_interval(text)


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "../../etc/passwd", "Europe"])
def test_no_time_zone_says_what_one_is(name: str) -> None:
    with pytest.raises(InputError, match="Asia/Tokyo"):
        parse_timezone(name)


@pytest.mark.parametrize("cron", ["", "x", "99 3 * * *", "0 0 30 2 *", "* * *"])
def test_no_cron_says_what_one_is(cron: str) -> None:
    with pytest.raises(InputError, match="--cron .* expected"):
        check_cron(Plan(cron=cron))
