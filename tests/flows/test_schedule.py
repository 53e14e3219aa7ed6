"""When the nightly runs, in any zone of the world. No server is needed; Prefect's own class plans the runs."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import yaml
from prefect.server.schemas.schedules import CronSchedule

DEPLOYMENTS = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
NIGHTS = 40
"""Around a change of the clocks: 20 before, 20 after."""


def nightly_cron() -> str:
    [schedule] = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][-1]["schedules"]
    return str(schedule["cron"])


def changes(zone: ZoneInfo, begin: datetime, days: int) -> list[datetime]:
    """The days (UTC midnight) on which a zone's clocks change."""
    midnights = [begin + timedelta(days=day) for day in range(days + 1)]
    offsets = [midnight.astimezone(zone).utcoffset() for midnight in midnights]
    return [midnights[day] for day in range(days) if offsets[day] != offsets[day + 1]]


def planned(cron: str, zone: str, begin: datetime) -> list[datetime]:
    """The starts of `NIGHTS` nights that Prefect plans, from `begin` on."""
    schedule = CronSchedule(cron=cron, timezone=zone)
    return asyncio.run(schedule.get_dates(n=NIGHTS, start=begin))


def zones_by_change() -> dict[tuple[datetime, timedelta | None, timedelta | None], str]:
    """One zone for each change of the clocks there is in two years: the moment, the offsets before and after."""
    found = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for change in changes(zone, datetime(2026, 1, 1, tzinfo=UTC), 2 * 366):
            before, after = (change + timedelta(days=days) for days in (0, 1))
            found[change, before.astimezone(zone).utcoffset(), after.astimezone(zone).utcoffset()] = name
    return found


def test_every_local_date_has_one_night_in_every_zone() -> None:
    """All IANA zones, two years: around each change of the clocks, each local date has exactly one run, at its hour."""
    cron = nightly_cron()
    minute, hour = (int(part) for part in cron.split()[:2])
    for (change, *_), name in zones_by_change().items():
        zone = ZoneInfo(name)
        starts = [start.astimezone(zone) for start in planned(cron, name, change - timedelta(days=NIGHTS // 2))]
        dates = [start.date() for start in starts]
        assert dates == [dates[0] + timedelta(days=day) for day in range(NIGHTS)], (name, change)
        assert {(start.hour, start.minute) for start in starts} == {(hour, minute)}, (name, change)
