"""What a certificate says: to people, to programs, and when something differs."""

from __future__ import annotations

import hashlib
import html
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, verifying

from mno.certificate.content import (
    AUDIT,
    BILL,
    METADATA,
    PAGE,
    SIGNATURE,
    SIGNER,
    SUMS,
    certificate_of,
)
from mno.certificate.folder import (
    certificate_files,
    certificate_folder,
    check_place,
    public_pem,
    read_private,
    read_public,
    sign_folder,
    summary,
    sums_text,
    verify_certificate,
    write_certificate,
)
from mno.certificate.page import render_dossier
from mno.core.errors import InputError, MnoError
from mno.core.files import folder_files
from mno.lineage.audit.walk import audit
from mno.lineage.replay import ConditionChange
from mno.lineage.replay_compare import Agreement, Outcome, Remade
from tests.certificate.conftest import key_file_of
from tests.report.japanese import english_in
from tests.support.audited_line import MODEL
from tests.support.undone_damage import byte, content
from tests.support.workspaces import Workspace


class Page:
    """A page's tags, ids, words, and where its links lead."""

    def __init__(self, text: str) -> None:
        self.text, self.tags = text, set(re.findall(r"<([a-z]+)", text))
        self.ids = set(re.findall(r' id="([^"]+)"', text))
        self.links = re.findall(r'<a [^>]*?href="([^"]+)"', text)
        self.words = html.unescape(re.sub(r"<[^>]+>", "", text))


def page_of(certificate):
    return Page(certificate_files(certificate)[PAGE].decode())


def test_the_page_loads_nothing_and_says_the_verdict_first(certificate):
    page = page_of(certificate)
    assert not re.search(r" (src|srcset|data)=|url\((?!#)|@import", page.text)
    assert not {"script", "link", "iframe", "object", "img", "use", "image"} & page.tags
    assert page.words.index("Nothing differs") < page.words.index("Verdict on each link")


def test_every_part_of_the_graph_leads_to_its_proof(certificate):
    page = page_of(certificate)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= page.ids
    proofs = {"data", "snapshot", "parameters", "environment", "record", "weights", "decision"}
    assert proofs <= {link[1:] for link in page.links}
    record = certificate.record
    for digest in (record["data"]["md5"], record["model"]["sha256"], record["snapshot"]["commit"]):
        assert digest in page.words


def test_what_is_recorded_cannot_change_the_page(certificate):
    evil = "</td><script>alert(1)</script><img src=x>"
    page = page_of(replace(certificate, tags={**certificate.tags, "mno.decision_reason": evil}))
    assert "script" not in page.tags and "img" not in page.tags
    assert evil in page.words


def test_a_difference_is_certified_as_one(line):
    name = "artifacts/candidate/weights.safetensors"
    with byte(line.package() / name), line.evidence() as evidence:
        certificate = certificate_of(evidence, audit(evidence), "2026-01-02T03:04:05+00:00")
    files = certificate_files(certificate)
    assert json.loads(files[AUDIT])["passed"] is False
    page = Page(files[PAGE].decode())
    assert "Something differs" in page.words and "Nothing differs" not in page.words
    assert name in page.words[page.words.index("What was changed or is missing") :]
    japanese = files["certificate.ja.html"].decode()
    assert english_in(japanese) == []
    assert "変更または欠落したもの" in japanese
    root = next(e for e in json.loads(files[METADATA])["@graph"] if e["@id"] == "./")
    assert "differences were found" in root["description"]


BOUNDS = "Does each answer come with a bound, and do bounds hold?"


def answers_of(page):
    """Return the dossier's answers and evidence by question."""
    rows = re.findall(r'<th scope="row">(.*?)</th><td.*?>(.*?)</td><td.*?>(.*?)</td>', page, re.S)
    return {
        html.unescape(asked): (told, re.findall('href="(.*?)"', at)) for asked, told, at in rows
    }


def test_the_dossier_answers_by_evidence_alone_in_both_languages(certificate):
    figures = {"level": 0.9, "measured": {"false_alarms": {"samples": 8, "count": 1}, "coverage": {
        "pressure": {"rmse": [None, {"count": 7, "samples": 8}]}}, "outside": {
        "noise": {"count": 8, "samples": 8}}}}  # fmt: skip
    metrics = {
        "relative_l2": 0.02,
        "baseline_relative_l2": 0.3,
        "samples": 8,
        "fields": {"p<i>": {}},
        "physics": {"samples": 4, "checks": {
            name: {"tolerance": 1.0, "prediction": {"largest": largest}}
            for name, largest in (("energy", 0.5), ("mass", 2.0))}},
    }  # fmt: skip
    known = {"trust.json": figures, "metrics.json": metrics}
    documents = {**certificate.documents, **{n: json.dumps(c).encode() for n, c in known.items()}}
    files = certificate_files(replace(certificate, documents=documents))
    page = files["dossier.html"].decode()
    told = answers_of(page)
    assert told["What does a guess without a model do?"] == (
        "The mean of training: 30\u202f%.",
        ["metrics.json"],
    )
    said, _ = told["Do predictions keep the laws that solutions keep?"]
    assert said == "1 of 2 checks of the physics hold on all predictions of 4 test runs."
    said, evidence = told["Does each answer come with a bound, and do bounds hold?"]
    assert said.startswith("Bounds of 90\u202f% hold for 88\u202f%") and "trust.json" in evidence
    assert told["Who made it, and how are they qualified?"] == ("none", [])
    assert told["Can it be made again?"] == ("none", [])
    assert "p&lt;i&gt;" in page and "p<i>" not in page
    for _, evidence in told.values():
        assert set(evidence) <= set(files)
    japanese = files["dossier.ja.html"].decode()
    assert english_in(japanese) == []
    assert len(answers_of(japanese)) == len(told) and "署名者へ" in japanese
    without = {n: c for n, c in documents.items() if n != "trust.json"}
    page = certificate_files(replace(certificate, documents=without))["dossier.html"].decode()
    assert answers_of(page)["Does each answer come with a bound, and do bounds hold?"] == (
        "none",
        [],
    )


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_the_dossier_is_printed_without_links_and_belongs_to_the_folder(certificate):
    files = certificate_files(certificate, browser=shutil.which("chromium"))
    for name in ("dossier.pdf", "dossier.ja.pdf"):
        assert files[name].startswith(b"%PDF") and len(files[name]) > 20_000
        assert b"/URI" not in files[name]
        assert f"  {name}\n".encode() in files["SHA256SUMS"]
    assert "dossier.pdf" not in certificate_files(certificate)
    with pytest.raises(MnoError, match="true cannot print the dossier"):
        certificate_files(certificate, browser=shutil.which("true"))


def test_a_damaged_file_is_no_evidence_and_no_obstacle(certificate):
    draw, names = random.Random(7), [n for n in certificate.documents if n.endswith(".json")]
    for number in range(200):
        name = names[number % len(names)]
        damaged = bytearray(certificate.documents[name])
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        documents = {**certificate.documents, name: bytes(damaged)}
        assert "Dossier" in render_dossier(replace(certificate, documents=documents))
    for nothing in (b"[]", b"{}", b'{"fields": 3, "physics": 4, "measured": []}', b"\xff", b""):
        documents = dict.fromkeys(certificate.documents, nothing)
        told = answers_of(render_dossier(replace(certificate, documents=documents)))
        assert told["Is it worth its cost?"] == told[BOUNDS] == ("none", [])


def again(certificate, *items, packages=(), machine=()):
    """Return it with a replay that has made these items, on packages and a machine that differ."""
    replay = Outcome(["train", "evaluate"], ["data"], packages, machine, "none", items)
    return replace(certificate, replay=replay)


@pytest.mark.parametrize(
    ("verdict", "passed"),
    [
        (Agreement.IDENTICAL, True),
        (Agreement.CLOSE, True),
        (Agreement.DIFFERENT, False),
        (Agreement.UNKNOWN, False),
        (None, False),
    ],
)
def test_a_replay_is_part_of_the_verdict(certificate, verdict, passed):
    items = [Remade("weights", verdict, "0a" * 32, "0b" * 32, "one remark")] if verdict else []
    machine = ConditionChange("cpu", "one", "another", matters=True)
    files = certificate_files(again(certificate, *items, machine=[machine]))
    told = json.loads(files[AUDIT])
    assert told["passed"] is told["replay"]["reproduced"] is passed
    page = Page(files[PAGE].decode())
    shown = ("0a" * 32, "0b" * 32, "one remark", "another") if items else ("another",)
    assert all(text in page.words for text in shown)
    assert ("Nothing differs" in page.words) is passed


def test_what_a_replay_tells_is_certified(certificate):
    same = Remade("weights.safetensors", Agreement.IDENTICAL, "0a", "0a")
    lost = Remade("trust.json", Agreement.UNKNOWN, "", "0b", "not kept")
    torch = ConditionChange("torch", "2.6", None, matters=True)
    made_again = again(certificate, same, lost, packages=[torch])
    assert made_again.passed
    words = page_of(made_again).words
    for text in ("weights.safetensors", "not kept", "train, evaluate", "torch: 2.6 → none"):
        assert text in words


def graph_of(certificate):
    files = certificate_files(certificate)
    graph = json.loads(files[METADATA])["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}, files


def led_to(value):
    items = value if isinstance(value, list) else [value]
    return [item["@id"] for item in items if isinstance(item, dict)]


def test_the_crate_describes_every_file_and_refers_to_nothing_else(certificate):
    graph, files = graph_of(certificate)
    described = {name for name, entity in graph.items() if entity["@type"] == "File"}
    assert described == set(files) - {METADATA}
    assert set(led_to(graph["./"]["hasPart"])) == described
    for name in described - {"SHA256SUMS"}:
        assert graph[name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
        assert graph[name]["contentSize"] == str(len(files[name]))
    for entity in graph.values():
        for value in entity.values():
            for name in led_to(value):
                assert name in graph or name.startswith("https://"), (entity["@id"], name)


def test_the_crate_has_what_its_profile_requires(certificate):
    """Process Run Crate 0.5."""
    graph, _ = graph_of(certificate)
    root, descriptor = graph["./"], graph[METADATA]
    assert led_to(descriptor["about"]) == ["./"]
    assert "https://w3id.org/ro/crate/1.1" in led_to(descriptor["conformsTo"])
    (profile,) = led_to(root["conformsTo"])
    assert profile == "https://w3id.org/ro/wfrun/process/0.5"
    assert graph[profile]["@type"] == "CreativeWork"
    assert all(root[key] for key in ("name", "description", "datePublished", "license"))
    actions = [e for e in graph.values() if e["@type"] == "CreateAction"]
    assert {action["@id"] for action in actions} <= set(led_to(root["mentions"]))
    for action in actions:
        (program,) = led_to(action["instrument"])
        assert graph[program]["@type"] in ("SoftwareApplication", "SoftwareSourceCode")
    assert {"#dataset", "#model", "weights.json"} <= set(led_to(graph["#run"]["result"]))
    assert graph["#parameter-train.epochs"]["value"] == "3"
    assert graph["#model"]["sha256"] == certificate.record["model"]["sha256"]


def test_without_the_snapshot_the_parameters_lack(certificate):
    documents = {n: c for n, c in certificate.documents.items() if not n.startswith("snapshot/")}
    graph, files = graph_of(replace(certificate, documents=documents, params={}))
    assert not any(name.startswith(("snapshot/", "#parameter")) for name in [*graph, *files])
    assert "is not at hand" in Page(files[PAGE].decode()).words


def test_the_bill_of_materials_names_every_package_and_licences(certificate):
    files = certificate_files(certificate)
    bill = json.loads(files[BILL])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = files["environment.txt"].decode().split()
    assert sorted(f"{c['name']}=={c['version']}" for c in bill["components"]) == sorted(listed)
    references = {component["bom-ref"] for component in bill["components"]}
    depends = {entry["ref"]: set(entry.get("dependsOn", [])) for entry in bill["dependencies"]}
    assert depends.pop(f"models:/{MODEL}/2") == references
    assert depends == {reference: set() for reference in references}
    assert len(references) == len(listed)
    licensed = {c["name"]: c["licenses"] for c in bill["components"] if "licenses" in c}
    assert len(licensed) > 0.9 * len(listed)
    assert "BSD" in json.dumps(licensed["numpy"])


def test_all_decisions_on_the_model_are_told(certificate):
    assert [(d["version"], d["decision"]) for d in certificate.decisions] == [
        (2, "champion"),
        (1, "champion"),
    ]
    assert certificate.decisions[0]["aliases"] == {"champion": 2}
    assert "of champion 1" in page_of(certificate).words


def test_the_documents_are_those_that_the_record_names(certificate, line):
    documents = certificate.documents
    md5 = hashlib.md5(documents["data.json"]).hexdigest()
    assert f"{md5}.dir" == certificate.record["data"]["md5"]
    seals = [path.stem for path in (line.run_files() / "seals").iterdir()]
    assert hashlib.sha256(documents["seal.json"]).hexdigest() in seals
    weights = json.loads(documents["weights.json"])["artifacts/candidate/weights.safetensors"]
    path: Path = line.package() / "artifacts/candidate/weights.safetensors"
    assert weights == hashlib.sha256(path.read_bytes()).hexdigest()


def named(folder, trusted=None):
    found = verify_certificate(folder, trusted)
    return [finding.subject for finding in found if finding.verdict.is_difference]


def test_a_stranger_can_not_command_the_terminal(tmp_path):
    evil = "a\x1b[2J\x1b]0;title\x07"
    (tmp_path / AUDIT).write_text(json.dumps({"model": evil, "passed": True}))
    (tmp_path / evil).write_text("")
    sum_up(tmp_path)
    (tmp_path / evil).write_text("changed")
    (tmp_path / f"more {evil}").symlink_to("/")
    told = [str(text) for one in verify_certificate(tmp_path) for text in vars(one).values()]
    assert repr(evil) in told and summary(tmp_path) == (repr(evil), True)
    assert all(map(str.isprintable, told))


def sum_up(folder):
    """Write the digests as they are now, as somebody would who wants nothing to be noticed."""
    files = {name: path.read_bytes() for name, path in folder_files(folder).items()}
    own = (SUMS, SIGNATURE)
    (folder / SUMS).write_bytes(sums_text({n: c for n, c in files.items() if n not in own}))


def test_an_unchanged_one_is_verified(folder, key):
    assert named(folder) == named(folder, public_pem(key.public_key())) == []
    assert named(shutil.copytree(folder, folder.parent / "copied")) == []


@pytest.mark.parametrize("signed", [True, False])
def test_no_changed_bit_is_missed(certificate, key, key_file, tmp_path, signed):
    folder = tmp_path / "certificate"
    key, key_file = (key, key_file) if signed else (None, None)
    write_certificate(folder, certificate_files(certificate, key), key_file)
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


def without(name):
    return lambda folder: (folder / name).unlink()


def swap(folder):
    first, second = folder / "record.json", folder / "seal.json"
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])


def add(folder):
    (folder / "snapshot/more.yaml").write_text("more")


def link(name):
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
def test_what_was_removed_added_swapped_or_linked_is_named(folder, change, subject):
    change(folder)
    assert subject in named(folder)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "snapshot/../../secret.txt"])
def test_no_path_leads_out_of_the_folder(folder, name):
    (folder.parent / "secret.txt").write_text("secret")
    sums = (folder / SUMS).read_bytes()
    with content(folder / SUMS, f"{'0' * 64}  {name}\n".encode() + sums):
        found = [f for f in verify_certificate(folder) if f.verdict.is_difference]
        assert any(f.subject == SUMS and "outside" in f.found for f in found)


def test_who_writes_the_digests_anew_cannot_sign(folder, key):
    (folder / AUDIT).write_text('{"passed": true}')
    sum_up(folder)
    assert f"{SIGNATURE} over all files" in named(folder)
    # Signed with another key all is well in itself, but not with the key that one trusts.
    other = ec.generate_private_key(ec.SECP384R1())
    (folder / SIGNER).write_bytes(public_pem(other.public_key()))
    sum_up(folder)
    (folder / SIGNATURE).unlink()
    sign_folder(folder, key_file_of(other, folder.parent))
    assert named(folder) == []
    assert named(folder, public_pem(key.public_key())) == ["signer"]


def test_a_signature_that_is_asked_for_must_be_there(certificate, key, tmp_path):
    write_certificate(tmp_path / "unsigned", certificate_files(certificate))
    assert named(tmp_path / "unsigned") == []
    assert named(tmp_path / "unsigned", public_pem(key.public_key())) == [SIGNATURE]


def keys(folder):
    private, public = folder / "key.pem", folder / "key.pem.pub"
    for command in (
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *command], check=True)
    return private, public


def test_keys_are_those_of_openssl(tmp_path):
    private, public = keys(tmp_path)
    assert read_public(public) == public.read_bytes()
    assert read_public(public) == public_pem(read_private(private).public_key())
    with pytest.raises(InputError, match="no private key of the curves"):
        read_private(public)
    with pytest.raises(InputError, match="no public key of these curves"):
        read_public(private)
    with pytest.raises(InputError, match="give the file of a key"):
        read_private(tmp_path / "nothing.pem")


def stock(folder, public):
    """Verify with the tool of model signing, without anything of ours; return its exit code."""
    command = ["model_signing", "verify", "key", folder, "--signature", folder / SIGNATURE]
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([tool, *command[1:], "--public_key", public], capture_output=True)
    return done.returncode


def test_the_stock_tool_verifies_it_and_finds_what_was_changed(folder, key, tmp_path):
    public = tmp_path / "key.pem.pub"
    public.write_bytes(public_pem(key.public_key()))
    assert stock(folder, public) == 0
    names = [name for name in folder_files(folder) if name != SIGNATURE]
    assert {"record.json", "environment.cdx.json", METADATA} < set(names)
    assert "package/artifacts/candidate/weights.safetensors" in names
    for name in ("package/artifacts/candidate/weights.safetensors", "record.json", SIGNATURE):
        with byte(folder / name):
            assert stock(folder, public) != 0
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    public.write_bytes(public_pem(other))
    assert stock(folder, public) != 0


def test_500_of_500_changed_files_are_found(folder):
    draw, names = random.Random(5), [n for n in folder_files(folder) if n != SIGNATURE]
    config = verifying.Config().use_elliptic_key_verifier(public_key=folder / SIGNER)
    hashed = hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=True)
    config.set_hashing_config(hashed).verify(folder, folder / SIGNATURE)
    missed = []
    for number in range(500):
        name = names[number % len(names)]
        size = (folder / name).stat().st_size
        with byte(folder / name, draw.randrange(size), draw.randrange(8)):
            try:
                config.verify(folder, folder / SIGNATURE)
            except ValueError:
                continue
            missed.append(name)
    assert missed == []


def test_a_certificate_is_found_by_its_page(folder, tmp_path):
    assert certificate_folder(folder / PAGE) == folder
    with pytest.raises(InputError, match="no certificate"):
        certificate_folder(tmp_path)


def test_an_audit_is_certified_signed_and_verified(line, tmp_path):
    workspace, folder, (private, public) = Workspace(line.root), tmp_path / "made", keys(tmp_path)
    order = ("--folder", str(folder), "--sign", str(private))
    done = workspace.mno("certify", f"models:/{MODEL}@champion", *order, check=True)
    assert f"mno certify verify {folder}" in done.stdout
    done = workspace.mno("certify", "verify", str(folder), "--key", str(public), "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["audit_passed"]) == (0, True)
    assert told["model"] == f"models:/{MODEL}/2"
    with byte(folder / "record.json"):
        done = workspace.mno("certify", "verify", str(folder / PAGE))
    assert done.returncode == 3
    assert "record.json" in done.stdout and "FAILED: 2 difference" in done.stdout


def test_a_browser_that_does_not_print_is_no_obstacle(line, tmp_path, monkeypatch):
    workspace, folder = Workspace(line.root), tmp_path / "made"
    Path(tmp_path, "chromium").symlink_to(shutil.which("true"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = workspace.mno("certify", f"models:/{MODEL}@champion", "--folder", str(folder))
    assert done.returncode == 0
    assert "The dossier is not there as PDF" in done.stderr and "dossier.html" in done.stdout
    assert not list(folder.glob("*.pdf"))
    assert workspace.mno("certify", "verify", str(folder)).returncode == 0


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", "exists"),
        ("none/certificate", "make it first"),
        ("data/certificate", "is audited"),
        (".dvc/cache/certificate", "is audited"),
    ],
)
def test_a_place_that_is_audited_or_taken_is_refused(line, place, message):
    with pytest.raises(InputError, match=message):
        check_place(line.root / place, line.root)


def test_what_a_kill_has_left_does_not_stop_the_next(certificate, tmp_path):
    left = tmp_path / "certificate.partial"
    left.mkdir()
    (left / "half.json").write_text("{")
    write_certificate(tmp_path / "certificate", certificate_files(certificate))
    assert [path.name for path in tmp_path.iterdir()] == ["certificate"]
    assert named(tmp_path / "certificate") == []


# Text of the graph that is wider than its box, or the page than its window.
TOO_WIDE = """() => [
  ...[...document.querySelectorAll(".graph .part")].flatMap((part) => {
    const box = part.querySelector("rect").getBoundingClientRect();
    return [...part.querySelectorAll("text")]
      .filter((text) => text.getBoundingClientRect().right > box.right)
      .map((text) => text.textContent);
  }),
  ...(document.documentElement.scrollWidth > innerWidth ? ["the page"] : []),
]"""


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_it_is_read_by_everyone(browser, folder, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    viewport: Any = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "certificate.html").as_uri())
    assert asked == [page.url]
    assert page.evaluate(TOO_WIDE) == []
    assert page.locator(".graph:visible a").count() == 10
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    context.close()


SCRIPT = Path(__file__).with_name("validate_crate.py")
VALIDATOR = "roc-validator>=0.13,<0.14"
VOCABULARY = "rocrate==0.9.0"  # ships that of RO-Crate 1.1


@pytest.mark.slow
@pytest.mark.nightly
def test_the_crate_is_a_valid_process_run_crate(folder, tmp_path):
    python, vocabulary = tmp_path / "environment/bin/python", tmp_path / "vocabulary"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "environment")], check=True)
    for words in ([VALIDATOR], ["--no-deps", "--target", str(vocabulary), VOCABULARY]):
        command = [str(python), "-m", "pip", "install", "-q", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the public validator cannot be installed here: {done.stderr[-300:]}")

    def problems() -> list[str]:
        context = vocabulary / "rocrate/data/ro-crate.jsonld"
        command = [str(python), str(SCRIPT), str(folder), str(context)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert problems() == []
    metadata = folder / METADATA
    metadata.write_text(metadata.read_text().replace('"license"', '"licence"'))
    assert any("license" in problem for problem in problems())
