"""The audit: every link of the chain from the weights back to where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ruamel.yaml.error import YAMLError

from mno.certificate import kept as certificates
from mno.core.errors import MnoError
from mno.lineage.audit import (
    data,
    decision,
    environment,
    parameters,
    record,
    registry,
    snapshot,
    sources,
    stages,
    weights,
)
from mno.lineage.audit.evidence import Evidence
from mno.lineage.audit.finding import Finding, Link

Check = Callable[[Evidence], Iterator[Finding]]

# In the order in which one asks: is this the model, where is it from, who let it go on?
_ALWAYS: tuple[tuple[str, Check], ...] = (
    (registry.LINK.name, registry.check),
    (record.LINK.name, record.check),
)
_OF_A_RECORD: tuple[tuple[str, Check], ...] = (
    (weights.LINK.name, weights.check),
    (data.LINK.name, data.check),
    (sources.LINK.name, sources.check),
    (stages.LINK.name, stages.check),
    (parameters.LINK.name, parameters.check),
    (snapshot.LINK.name, snapshot.check),
    (environment.LINK.name, environment.check),
    (decision.LINK.name, decision.check),
    (certificates.LINK.name, certificates.check),
)
# A record or a row may hold anything: what no check foresaw is a difference, and no crash.
_UNFORESEEN = (MnoError, OSError, LookupError, TypeError, ValueError, AttributeError, YAMLError)
LINKS = tuple(name for name, _ in (*_ALWAYS, *_OF_A_RECORD))


def audit(
    evidence: Evidence, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Finding]:
    """Check every link of a version's lineage.

    Args:
        evidence: The version, and where the rest may be found. Nothing of it is written to.
        progress: Is told the link that is being looked at, its number, and of how many.
    """
    links = [*_ALWAYS, *(_OF_A_RECORD if evidence.record is not None else ())]
    findings: list[Finding] = []
    for number, (name, check) in enumerate(links):
        progress(name, number, len(links))
        try:
            findings.extend(check(evidence))
        except _UNFORESEEN as error:
            advice = "restore the files of the run from a backup, or report it as a bug"
            found = f"{type(error).__name__}: {error}"
            findings.append(Link(name).changed("what was recorded", "readable", found, advice))
    return findings
