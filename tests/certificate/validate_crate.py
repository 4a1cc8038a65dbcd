"""Run by the Python that has the public validator: `validate_crate.py FOLDER CONTEXT`.

The vocabulary of RO-Crate is read from the file CONTEXT, as the package `rocrate` ships it, not
from the network. Prints what is wrong with the crate, a line each.
"""

# pyright: reportMissingImports=false
import sys
from pathlib import Path

from requests import ConnectionError, Response
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

PROFILE = "process-run-crate-0.5"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
FOLDER, VOCABULARY = sys.argv[1:]


def at_hand(self, url, **_):
    if url.rstrip("/") != CONTEXT:
        raise ConnectionError(f"{url} is not at hand")
    answer = Response()
    answer.status_code, answer._content = 200, Path(VOCABULARY).read_bytes()
    answer.url, answer.headers["Content-Type"] = url, "application/ld+json"
    return answer


HttpRequester.get = at_hand
found = services.validate(
    services.ValidationSettings(
        rocrate_uri=FOLDER,
        profile_identifier=PROFILE,
        requirement_severity=models.Severity.REQUIRED,
    )
)
assert len(found.executed_checks) > 10, found.executed_checks
for issue in found.get_issues():
    print(f"{issue.check.identifier}: {issue.message}")
