"""What a certificate says: to people, to programs, and when something differs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mno.certificate.content import (
    AUDIT,
    BILL,
    METADATA,
    PAGE,
    WORKFLOW,
    Certificate,
    certificate_of,
)
from mno.certificate.folder import certificate_files
from mno.lineage.audit.walk import audit
from mno.lineage.replay import ConditionChange
from mno.lineage.replay_compare import Agreement, Outcome, Remade
from tests.support.audited_line import MODEL, Line
from tests.support.undone_damage import byte

Entity = dict[str, Any]
_ACTIONS = ("CreateAction", "OrganizeAction", "ControlAction")


class Page(HTMLParser):
    """Reads a page: its ids, where its links lead, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" else []
        self.loaded += [given[n] for n in ("src", "srcset", "data") if n in given]
        self.loaded += [given["href"]] if tag in ("link", "use", "image") else []

    def handle_data(self, data: str) -> None:
        self.words += data


def page_of(certificate: Certificate) -> Page:
    return Page(certificate_files(certificate)[PAGE].decode())


def test_the_page_loads_nothing_and_says_the_verdict_first(certificate: Certificate) -> None:
    page = page_of(certificate)
    assert page.loaded == []
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    assert page.words.index("Nothing differs") < page.words.index("Verdict on each link")


def test_every_part_of_the_graph_leads_to_its_proof(certificate: Certificate) -> None:
    page = page_of(certificate)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= page.ids
    proofs = {"data", "snapshot", "parameters", "environment", "record", "weights", "decision"}
    assert proofs <= {link[1:] for link in page.links}
    record = certificate.record
    for digest in (record["data"]["md5"], record["model"]["sha256"], record["snapshot"]["commit"]):
        assert digest in page.words


def test_what_is_recorded_cannot_change_the_page(certificate: Certificate) -> None:
    evil = "</td><script>alert(1)</script><img src=x>"
    tags = {**certificate.tags, "mno.decision_reason": evil}
    text = certificate_files(replace(certificate, tags=tags))[PAGE].decode()
    page = Page(text)
    assert "script" not in page.tags and "img" not in page.tags
    assert evil in page.words


def test_a_difference_is_certified_as_one(line: Line) -> None:
    name = "artifacts/candidate/weights.safetensors"
    with byte(line.package() / name), line.evidence() as evidence:
        certificate = certificate_of(evidence, audit(evidence), "2026-01-02T03:04:05+00:00")
    files = certificate_files(certificate)
    assert json.loads(files[AUDIT])["passed"] is False
    page = Page(files[PAGE].decode())
    assert "Something differs" in page.words and "Nothing differs" not in page.words
    assert name in page.words[page.words.index("What was changed or is missing") :]
    root = next(e for e in json.loads(files[METADATA])["@graph"] if e["@id"] == "./")
    assert "differences were found" in root["description"]


def again(certificate: Certificate, *items: Remade, packages=(), machine=()) -> Certificate:
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
def test_a_replay_is_part_of_the_verdict(
    certificate: Certificate, verdict: Agreement | None, passed: bool
) -> None:
    items = [Remade("weights", verdict, "0a" * 32, "0b" * 32, "one remark")] if verdict else []
    machine = ConditionChange("cpu", "one", "another", matters=True)
    files = certificate_files(again(certificate, *items, machine=[machine]))
    told = json.loads(files[AUDIT])
    assert told["passed"] is told["replay"]["reproduced"] is passed
    page = Page(files[PAGE].decode())
    shown = ("0a" * 32, "0b" * 32, "one remark", "another") if items else ("another",)
    assert all(text in page.words for text in shown)
    assert ("Nothing differs" in page.words) is passed


def test_what_a_replay_tells_is_certified(certificate: Certificate) -> None:
    same = Remade("weights.safetensors", Agreement.IDENTICAL, "0a", "0a")
    lost = Remade("trust.json", Agreement.UNKNOWN, "", "0b", "not kept")
    torch = ConditionChange("torch", "2.6", None, matters=True)
    made_again = again(certificate, same, lost, packages=[torch])
    assert made_again.passed
    words = page_of(made_again).words
    for text in ("weights.safetensors", "not kept", "train, evaluate", "torch: 2.6 → none"):
        assert text in words


def graph_of(certificate: Certificate) -> tuple[dict[str, Entity], dict[str, bytes]]:
    files = certificate_files(certificate)
    graph = json.loads(files[METADATA])["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}, files


def kinds(entity: Entity) -> set[str]:
    found = entity["@type"]
    return set(found if isinstance(found, list) else [found])


def led_to(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item["@id"] for item in items if isinstance(item, dict)]


def test_the_crate_describes_every_file_and_refers_to_nothing_else(
    certificate: Certificate,
) -> None:
    graph, files = graph_of(certificate)
    described = {name for name, entity in graph.items() if "File" in kinds(entity)}
    assert described == set(files) - {METADATA}
    assert set(led_to(graph["./"]["hasPart"])) == described
    for name in described - {"SHA256SUMS"}:
        assert graph[name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
        assert graph[name]["contentSize"] == str(len(files[name]))
    for entity in graph.values():
        for value in entity.values():
            for name in led_to(value):
                assert name in graph or name.startswith("https://"), (entity["@id"], name)


def test_the_crate_has_what_its_profile_requires(certificate: Certificate) -> None:
    """Provenance Run Crate 0.5, and the profiles that it extends."""
    graph, _ = graph_of(certificate)
    root, descriptor = graph["./"], graph[METADATA]
    assert led_to(descriptor["about"]) == ["./"]
    assert "https://w3id.org/ro/crate/1.1" in led_to(descriptor["conformsTo"])
    for profile in ("process", "workflow", "provenance"):
        name = f"https://w3id.org/ro/wfrun/{profile}/0.5"
        assert name in led_to(root["conformsTo"]) and "CreativeWork" in kinds(graph[name])
    assert all(root[key] for key in ("name", "description", "datePublished", "license"))
    workflow = graph[root["mainEntity"]["@id"]]
    assert workflow["@id"] == WORKFLOW
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"} <= kinds(workflow)
    assert "ComputerLanguage" in kinds(graph[workflow["programmingLanguage"]["@id"]])
    actions = {key: [e for e in graph.values() if key in kinds(e)] for key in _ACTIONS}
    run = {name for action in actions["CreateAction"] for name in led_to(action["instrument"])}
    assert {WORKFLOW, *led_to(workflow["hasPart"])} <= run
    for step in led_to(workflow["step"]):
        assert led_to(graph[step]["workExample"])[0] in led_to(workflow["hasPart"])
    for action in actions["ControlAction"]:
        assert led_to(action["instrument"])[0] in led_to(workflow["step"])
        assert "CreateAction" in kinds(graph[led_to(action["object"])[0]])
    (organised,) = actions["OrganizeAction"]
    assert led_to(organised["object"]) == [action["@id"] for action in actions["ControlAction"]]
    for parameter in (e for e in graph.values() if "FormalParameter" in kinds(e)):
        assert parameter["additionalType"] and "File" in kinds(
            graph[parameter["workExample"]["@id"]]
        )
    mentioned = set(led_to(root["mentions"]))
    assert {a["@id"] for found in actions.values() for a in found} <= mentioned
    assert graph["#parameter-train.epochs"]["value"] == "3"
    assert graph["#model"]["sha256"] == certificate.record["model"]["sha256"]


def test_without_the_snapshot_the_crate_is_one_of_a_process(certificate: Certificate) -> None:
    documents = {n: c for n, c in certificate.documents.items() if not n.startswith("snapshot/")}
    graph, files = graph_of(replace(certificate, documents=documents, params={}))
    assert "mainEntity" not in graph["./"]
    assert led_to(graph["./"]["conformsTo"]) == ["https://w3id.org/ro/wfrun/process/0.5"]
    assert not any(name.startswith("snapshot/") for name in files)
    assert "is not at hand" in Page(files[PAGE].decode()).words


def test_the_bill_of_materials_names_every_package_and_licences(certificate: Certificate) -> None:
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


def test_all_decisions_on_the_model_are_told(certificate: Certificate) -> None:
    assert [(d.version, d.decision) for d in certificate.decisions] == [
        (2, "champion"),
        (1, "champion"),
    ]
    assert certificate.decisions[0].aliases == {"champion": 2}
    assert "of champion 1" in page_of(certificate).words


def test_the_documents_are_those_that_the_record_names(
    certificate: Certificate, line: Line
) -> None:
    documents = certificate.documents
    md5 = hashlib.md5(documents["data.json"]).hexdigest()
    assert f"{md5}.dir" == certificate.record["data"]["md5"]
    seals = [path.stem for path in (line.run_files() / "seals").iterdir()]
    assert hashlib.sha256(documents["seal.json"]).hexdigest() in seals
    weights = json.loads(documents["weights.json"])["artifacts/candidate/weights.safetensors"]
    path: Path = line.package() / "artifacts/candidate/weights.safetensors"
    assert weights == hashlib.sha256(path.read_bytes()).hexdigest()
