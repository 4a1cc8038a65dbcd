"""Link: the snapshot, a git commit of the code and parameters that trained the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mno.core.errors import MnoError
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.audit.tree import Tree, is_id
from mno.lineage.git import git
from mno.lineage.snapshot import changed_code

LINK = Link("snapshot")
_FETCH = "fetch the snapshots: git fetch ORIGIN 'refs/mno/*:refs/mno/*'"
_UNCOMMITTED_TAG = "mno.uncommitted"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check that the commits exist, are whole and kept, and that the code was committed."""
    tree = evidence.tree
    yield from _commit(evidence.root, "commit of the training", tree)
    yield LINK.equal("tree", entry(evidence.record, "snapshot", "tree"), tree.tree, _FETCH)
    again = evidence.registered_tree
    if again is not None and again.commit != tree.commit:
        yield from _commit(evidence.root, "commit of the registration", again)
    yield from _committed(evidence)


def _commit(root: Path, subject: str, tree: Tree) -> Iterator[Finding]:
    if tree.missing:
        yield LINK.missing(f"{subject} {tree.commit or ''}".strip(), tree.missing, _FETCH)
        return
    for damaged in tree.damaged:
        advice = f"restore it from another clone: git fetch there, after git fsck here; {_FETCH}"
        yield LINK.changed(f"object of the {subject}", tree.commit, damaged, advice)
    if tree.damaged or tree.tree is None:
        return
    yield LINK.verified(f"{subject} {tree.commit}", f"{len(tree.files)} files")
    yield _ref(root, subject, tree)


def _ref(root: Path, subject: str, tree: Tree) -> Finding:
    """Say whether a snapshot is kept: the ref that its content names, or another that has it."""
    name = f"refs/mno/{(tree.tree or '')[:16]}"
    try:
        kept = git(root, "rev-parse", "--verify", "--quiet", name).decode().strip()
    except MnoError:
        kept = None
    if kept == tree.commit:
        return LINK.verified(f"ref of the {subject}", name)
    restore = f"no ref keeps it, so that git gc removes it: git update-ref {name} {tree.commit}"
    if kept is None:
        return LINK.missing(f"ref of the {subject}", name, restore)
    return LINK.changed(f"ref of the {subject}", tree.commit, f"{name} points at {kept}", restore)


def _committed(evidence: Evidence) -> Iterator[Finding]:
    """Check what the record and the version say of code that was in no commit."""
    tree, record = evidence.tree, evidence.record
    if not tree.whole or tree.commit is None:
        yield LINK.unknown("committed code", "the snapshot is not at hand to compare it")
        return
    uncommitted = entry(record, "uncommitted")
    if uncommitted and not _committed_later(evidence):
        shown = ", ".join(uncommitted[:5]) + (" and more" if uncommitted[5:] else "")
        yield LINK.unknown(
            "committed code",
            f"at training time it was in no commit: {shown}",
            f"nobody may have reviewed it; the snapshot has it: git show {tree.commit}",
        )
    else:
        head = entry(evidence.sealed, "snapshot", "head") if uncommitted else entry(record, "head")
        yield from _equals_commit(evidence.root, tree.commit, head)
    if evidence.tags.get(_UNCOMMITTED_TAG) == "true" and not uncommitted:
        yield from _mark(evidence)


def _committed_later(evidence: Evidence) -> bool:
    """Whether the code was committed between training and registration, as register advises."""
    head = entry(evidence.sealed, "snapshot", "head")
    return evidence.tags.get(_UNCOMMITTED_TAG) == "false" and head is not None


def _equals_commit(root: Path, snapshot: str, head: object) -> Iterator[Finding]:
    if not isinstance(head, str) or not is_id(head):
        yield LINK.unknown("committed code", "the record names no commit that was checked out")
        return
    try:
        git(root, "cat-file", "-e", f"{head}^{{commit}}")
    except MnoError:
        yield LINK.missing("committed code", f"commit {head}", "fetch the branch that has it")
        return
    if not _is_reachable(root, head):
        advice = f"no branch or tag has it any more; keep it with: git tag audited {head}"
        yield LINK.missing("committed code", f"a branch or tag with commit {head}", advice)
    try:
        changed = list(changed_code(root, snapshot, head))
    except MnoError as error:
        yield LINK.changed("committed code", head, str(error), "git fsck")
        return
    if changed:
        advice = f"git diff {head} {snapshot}"
        yield LINK.changed("committed code", head, f"other in {', '.join(changed)}", advice)
    else:
        yield LINK.verified("committed code", f"equal to commit {head}")


def _is_reachable(root: Path, commit: str) -> bool:
    kinds = ("refs/heads", "refs/remotes", "refs/tags")
    if git(root, "for-each-ref", "--count=1", "--contains", commit, *kinds):
        return True
    try:
        git(root, "merge-base", "--is-ancestor", commit, "HEAD")
    except MnoError:
        return False
    return True


def _mark(evidence: Evidence) -> Iterator[Finding]:
    """Check the mark of a version whose code was committed when it was trained."""
    subject, now = "mark of uncommitted code", entry(evidence.sealed, "snapshot")
    if now is None:
        yield LINK.unknown(subject, "the version was registered before seals were made")
        return
    try:
        changed = changed_code(evidence.root, now["commit"], now["head"])
    except MnoError as error:
        yield LINK.missing(subject, str(error), _FETCH)
        return
    if changed:
        yield LINK.verified(subject, f"the code that registered it differed: {', '.join(changed)}")
    else:
        yield LINK.changed(subject, "false", "true", "see who has set the tag")
