"""One byte changed anywhere in a certificate is found, and its file named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mno.certificate.content import AUDIT, METADATA, PAGE, SIGNATURE, SIGNER, SUMS, Certificate
from mno.certificate.folder import (
    certificate_files,
    public_pem,
    read_private,
    read_public,
    sums_text,
    write_certificate,
    write_keys,
)
from mno.certificate.verify import certificate_folder, verify_certificate
from mno.core.errors import InputError
from mno.core.files import folder_files
from tests.support.undone_damage import byte, content


def named(folder: Path, trusted: bytes | None = None) -> list[str]:
    """Return the subjects that differ."""
    found = verify_certificate(folder, trusted)
    return [finding.subject for finding in found if finding.verdict.is_difference]


def sum_up(folder: Path) -> None:
    """Write the digests as they are now, as somebody would who wants nothing to be noticed."""
    files = {name: path.read_bytes() for name, path in folder_files(folder).items()}
    own = (SUMS, SIGNATURE)
    (folder / SUMS).write_bytes(sums_text({n: c for n, c in files.items() if n not in own}))


def test_an_unchanged_one_is_verified(folder: Path, key: Ed25519PrivateKey) -> None:
    assert named(folder) == named(folder, public_pem(key.public_key())) == []
    assert named(shutil.copytree(folder, folder.parent / "copied")) == []


@pytest.mark.parametrize("signed", [True, False])
def test_no_changed_bit_is_missed(
    certificate: Certificate, key: Ed25519PrivateKey, tmp_path: Path, signed: bool
) -> None:
    folder = tmp_path / "certificate"
    write_certificate(folder, certificate_files(certificate, key if signed else None))
    draw, names = random.Random(3), list(folder_files(folder))
    missed = []
    for number in range(300):
        name = names[number % len(names)] if number < len(names) else draw.choice(names)
        position, bit = draw.randrange((folder / name).stat().st_size), draw.randrange(8)
        with byte(folder / name, position, bit):
            found = named(folder)
        # A changed digest is found by the file that it is of.
        if not (found if name == SUMS else any(name in subject for subject in found)):
            missed.append((name, position, bit, found))
    assert missed == []
    assert named(folder) == []


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def swap(folder: Path) -> None:
    first, second = folder / "record.json", folder / "seal.json"
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])


def add(folder: Path) -> None:
    (folder / "snapshot/more.yaml").write_text("more")


def link(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return change


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        *((without(name), name) for name in (AUDIT, PAGE, METADATA, SUMS, SIGNATURE, SIGNER)),
        *((link(name), name) for name in ("record.json", "snapshot")),
        (swap, "record.json"),
        (add, "snapshot/more.yaml"),
    ],
)
def test_what_was_removed_added_swapped_or_linked_is_named(
    folder: Path, change: Callable[[Path], None], subject: str
) -> None:
    change(folder)
    assert subject in named(folder)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "snapshot/../../secret.txt"])
def test_no_path_leads_out_of_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    sums = (folder / SUMS).read_bytes()
    with content(folder / SUMS, f"{'0' * 64}  {name}\n".encode() + sums):
        found = [f for f in verify_certificate(folder) if f.verdict.is_difference]
        assert any(f.subject == SUMS and "outside" in f.found for f in found)
    graph = json.loads((folder / METADATA).read_bytes())
    for uri in (name, f"file://{name}"):
        graph["@graph"][-1] = {"@id": uri, "@type": "File"}
        (folder / METADATA).write_text(json.dumps(graph))
        sum_up(folder)
        assert any(uri in subject for subject in named(folder))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"@graph": 3}', b'{"@graph": [1, null]}'])
def test_what_is_no_crate_is_a_difference_and_no_crash(folder: Path, text: bytes) -> None:
    (folder / METADATA).write_bytes(text)
    assert METADATA in named(folder)


def test_who_writes_the_digests_anew_cannot_sign(folder: Path, key: Ed25519PrivateKey) -> None:
    (folder / AUDIT).write_text('{"passed": true}')
    sum_up(folder)
    assert f"{SIGNATURE} over {SUMS}" in named(folder)
    # Signed with another key all is well in itself, but not with the key that one trusts.
    other = Ed25519PrivateKey.generate()
    (folder / SIGNER).write_bytes(public_pem(other.public_key()))
    graph = (folder / METADATA).read_text()
    (folder / METADATA).write_text(graph.replace('"sha256": ', '"sha-256": '))
    sum_up(folder)
    (folder / SIGNATURE).write_bytes(other.sign((folder / SUMS).read_bytes()))
    assert named(folder) == []
    assert named(folder, public_pem(key.public_key())) == ["signer"]


def test_a_signature_that_is_asked_for_must_be_there(
    certificate: Certificate, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    write_certificate(tmp_path / "unsigned", certificate_files(certificate))
    assert named(tmp_path / "unsigned") == []
    assert named(tmp_path / "unsigned", public_pem(key.public_key())) == [SIGNATURE]


def test_keys_are_for_their_owner_and_never_overwritten(tmp_path: Path) -> None:
    private = tmp_path / "key.pem"
    public, fingerprint = write_keys(private)
    assert private.stat().st_mode & 0o777 == 0o600
    assert read_public(public) == public_pem(read_private(private).public_key())
    assert fingerprint.startswith("SHA256:")
    before = private.read_bytes()
    for path in (private, tmp_path / "key.pem.pub"):
        with pytest.raises(InputError, match="never overwritten"):
            write_keys(path if path == private else path.with_suffix(""))
    assert private.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.pem", "key.pem.pub"]
    with pytest.raises(InputError, match="private Ed25519 key"):
        read_private(public)
    with pytest.raises(InputError, match="public Ed25519 key"):
        read_public(private)


def test_a_certificate_is_found_by_its_page(folder: Path, tmp_path: Path) -> None:
    assert certificate_folder(folder / PAGE) == folder
    with pytest.raises(InputError, match="no certificate"):
        certificate_folder(tmp_path)
