"""Being told: what happened on the line, to a file, a web address or a mailbox.

    settings = read_settings(root)
    problems = notify(settings, Event("failure", "The run failed", reason, "mno run"))

Nothing here raises because a receiver is away or slow: telling must never break what is told of.
"""

from flows.notify.event import KINDS, Event, Kind
from flows.notify.settings import SETTINGS_FILE, NotifyConfig, read_settings
from flows.notify.telling import notify

__all__ = [
    "KINDS",
    "SETTINGS_FILE",
    "Event",
    "Kind",
    "NotifyConfig",
    "notify",
    "read_settings",
]
