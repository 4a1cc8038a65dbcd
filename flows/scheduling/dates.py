"""When a plan fires: by Prefect's own schedules, so that both always agree."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.scheduling.plan import Plan

if TYPE_CHECKING:
    from prefect.client.schemas.schedules import SCHEDULE_TYPES


def prefect_schedule(plan: Plan) -> SCHEDULE_TYPES:
    """Return the plan as Prefect's server is given it.

    Raises:
        ValueError: `cron` cannot be read.
    """
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if plan.interval is not None:
        return IntervalSchedule(
            interval=timedelta(seconds=plan.interval),
            anchor_date=datetime.fromisoformat(plan.since),
            timezone=plan.timezone,
        )
    return CronSchedule(cron=str(plan.cron), timezone=plan.timezone)


def next_dates(plan: Plan, after: datetime, count: int = 1) -> list[datetime]:
    """Return when the plan fires next, the first after a moment; fewer if it never does.

    At daylight saving a time of day that occurs twice fires once, and one that is left out fires an
    hour later.

    Args:
        plan: When to run.
        after: With a time zone.
        count: How many.
    """
    from prefect.server.schemas import schedules

    known = prefect_schedule(plan)
    kind = getattr(schedules, type(known).__name__)
    server_side = kind.model_validate(known.model_dump())
    start = after + timedelta(microseconds=1)

    def ask() -> list[datetime]:
        return asyncio.run(server_side.get_dates(n=count, start=start))

    # A thread of its own: the caller may have a running loop.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(ask).result()
    return [datetime.fromisoformat(date.isoformat()).astimezone() for date in found]
