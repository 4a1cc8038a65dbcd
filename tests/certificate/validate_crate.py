"""Run by the Python that has the public validators: hold a crate, or a bill, against its schema.

`validate_crate.py crate FOLDER CONTEXT` or `validate_crate.py bill FILE`. The vocabulary of
RO-Crate is read from the file CONTEXT, as the package `rocrate` ships it, not from the network.
Prints what is wrong, a line each.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import sys
from pathlib import Path

PROFILE = "provenance-run-crate-0.5"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def crate(folder: str, context: str) -> list[str]:
    """Return what the validator of RO-Crates objects to."""
    from requests import ConnectionError, Response
    from rocrate_validator import models, services
    from rocrate_validator.utils.http import HttpRequester

    def at_hand(self, url: str, **_) -> Response:
        if url.rstrip("/") != CONTEXT:
            raise ConnectionError(f"{url} is not at hand")
        answer = Response()
        answer.status_code, answer._content = 200, Path(context).read_bytes()
        answer.url, answer.headers["Content-Type"] = url, "application/ld+json"
        return answer

    HttpRequester.get = at_hand
    settings = services.ValidationSettings(
        rocrate_uri=folder,
        profile_identifier=PROFILE,
        requirement_severity=models.Severity.REQUIRED,
    )
    found = services.validate(settings)
    assert len(found.executed_checks) > 20, found.executed_checks
    return [f"{issue.check.identifier}: {issue.message}" for issue in found.get_issues()]


def bill(file: str) -> list[str]:
    """Return what the schema of CycloneDX objects to."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(file).read_text())
    return [] if found is None else [str(found)]


if __name__ == "__main__":
    problems = {"crate": crate, "bill": bill}[sys.argv[1]](*sys.argv[2:])
    print("\n".join(problems))
