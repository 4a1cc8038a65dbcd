"""The audit: every link of the chain from the weights back to where they came from."""

from collections.abc import Callable

from ruamel.yaml.error import YAMLError

from mno.core.errors import MnoError
from mno.lineage.audit import Evidence, Finding, code, data, decision, registered

# In the order in which one asks: is this the model, where is it from, who let it go on?
_CHECKS = (
    (registered.REGISTRY, registered.check_registry), (registered.RECORD, registered.check_record),
    (registered.WEIGHTS, registered.check_weights), (data.DATASET, data.check_data),
    (data.SOURCES, data.check_sources), (code.STAGES, code.check_stages),
    (code.PARAMETERS, code.check_parameters), (code.SNAPSHOT, code.check_snapshot),
    (code.ENVIRONMENT, code.check_environment), (decision.DECISION, decision.check_decision),
)  # fmt: skip
LINKS = tuple(link.name for link, _ in _CHECKS)
# A record or a row may hold anything: what no check foresaw is a difference, and no crash.
_UNFORESEEN = (MnoError, OSError, LookupError, TypeError, ValueError, AttributeError, YAMLError)


def audit(
    evidence: Evidence, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Finding]:
    """Check every link of a version's lineage; nothing of the evidence is written to.

    Without a record only the first two are checked. Progress is told the link that is being looked
    at, its number, and of how many.
    """
    links = _CHECKS[:2] if evidence.record is None else _CHECKS
    findings: list[Finding] = []
    for number, (link, check) in enumerate(links):
        progress(link.name, number, len(links))
        try:
            findings.extend(check(evidence))
        except _UNFORESEEN as error:
            advice = "restore the files of the run from a backup, or report it as a bug"
            found = f"{type(error).__name__}: {error}"
            findings.append(link.changed("what was recorded", "readable", found, advice))
    return findings
