"""Names in the registry: the model, its aliases, and the tags of a version."""

from __future__ import annotations

CHAMPION = "champion"
CHALLENGER = "challenger"

CANDIDATE = "mno.candidate"
LINEAGE = "mno.lineage_sha256"
PACKAGE = "mno.package_sha256"
UNCOMMITTED = "mno.uncommitted"
RELATIVE_L2 = "mno.relative_l2"
DATA = "mno.data_md5"
EVALUATION = "mno.evaluation_sha256"
DECISION = "mno.decision"
REASON = "mno.decision_reason"
RIVAL = "mno.compared_with"
RIVAL_L2 = "mno.champion_relative_l2"
# Of a version, the digest of its seal; of a model, where the latest seal of all lies.
SEAL = "mno.seal"


def model_name(scenario: str) -> str:
    """Return the name under which a scenario's models are registered."""
    return f"mno-{scenario}"
