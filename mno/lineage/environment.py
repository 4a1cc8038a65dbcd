"""What a result was made on: installed packages, and the facts of the machine."""

import hashlib
import os
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

CONSTRAINTS_FILE = "constraints.txt"
PACKAGES_FILE = "environment.txt"  # of a run: what `installed_packages` lists
_FIELD = re.compile(r"^(Name|Version):(.*)$", re.MULTILINE)
_OWN = "mno"  # its code is in the snapshot, however it was installed


@cache
def installed_packages() -> tuple[str, ...]:
    """List installed packages as sorted `name==version`, but this project itself."""
    found = set()
    for distribution in distributions():
        # Ten times faster than `distribution.name`, which parses the whole file as an e-mail.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        fields = dict(_FIELD.findall(text.partition("\n\n")[0]))
        name = fields.get("Name", "").strip().lower().replace("_", "-")
        if name and name != _OWN:
            found.add(f"{name}=={fields.get('Version', '').strip()}")
    return tuple(sorted(found))


def environment_sha256(root: Path) -> str:
    """Digest of `constraints.txt` and the installed packages."""
    path = root / CONSTRAINTS_FILE
    constraints = path.read_bytes() if path.exists() else b""
    return environment_digest(constraints, [name.encode() for name in installed_packages()])


def environment_digest(constraints: bytes, packages: Iterable[bytes]) -> str:
    """Digest of the content of `constraints.txt` and a list of packages."""
    return hashlib.sha256(constraints + b"\0" + b"\n".join(packages)).hexdigest()


def machine_facts() -> dict[str, str | int | None]:
    """Facts of the machine on which a result may depend; no names."""
    return {
        "cpu": _cpu_model(), "cores": os.cpu_count(), "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}", "python": platform.python_version(),
    }  # fmt: skip


def _cpu_model() -> str:
    with suppress(OSError):  # not Linux; the platform module's answer is the best there is
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
