"""The rule of promotion, on plain figures: the registry applies it, and an audit applies it again.

What was judged is a mapping that is kept with the version:

- `standing`: `first` (there was no champion), `already` (it was the champion), `unusable` (the
  champion's files are gone or do not predict), `unreachable` (the champion could not be read from
  a server, perhaps for a while only) or `against` (it was compared with the champion);
- `approval`, `rule`, `margin`: as `params.yaml` had them;
- `gates`: of each indicator that had to be met, whether it was `met`, `missed`, `undecided` or
  `unknown`;
- `beside`: figures of the version (`own`) and of the `champion`, measured side by side, by name; or
  why there are none. Where they have a limit, it is among the gates;
- `difference`: its error minus the champion's on the same samples; `interval`: the two ends of the
  interval of that, or why there is none; `champion_relative_l2`: the champion's error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHAMPION, CHALLENGER, WAITING, REFUSED = "champion", "challenger", "waiting", "refused"
PROMOTION = "mno.promotion"
"""The tag of a version that holds what was judged, or who decided, as JSON."""
BY_RULE = "rule"
BY_PERSON = {"manual": CHAMPION, "approval": CHAMPION, "rollback": CHAMPION, "refusal": REFUSED}
"""What a person may do, and what the decision on the version then is."""


def verdict(judged: Mapping[str, Any]) -> str:
    """Return what the rule makes of a version: champion, challenger, or waiting for approval."""
    if judged["standing"] == "already":
        return CHAMPION
    if judged["standing"] == "unreachable" or failing(judged):
        return CHALLENGER
    if judged["standing"] == "against" and not is_better(judged):
        return CHALLENGER
    return WAITING if judged["approval"] == "human" else CHAMPION


def failing(judged: Mapping[str, Any]) -> list[str]:
    """Name the indicators that keep a version from becoming champion."""
    return [name for name, status in judged["gates"].items() if status in ("missed", "unknown")]


def is_better(judged: Mapping[str, Any]) -> bool:
    """Tell whether the error is lower than the champion's, as surely as the rule asks.

    With the rule `certain` the whole interval of the difference has to lie below -margin times the
    champion's error; with `likely` the difference itself.
    """
    limit = -judged["margin"] * judged["champion_relative_l2"]
    if judged["rule"] == "likely":
        return judged["difference"] < limit
    interval = judged["interval"]
    return not isinstance(interval, str) and interval[1] < limit
