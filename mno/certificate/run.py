"""The run of the line in an RO-Crate: its workflow, its stages and what each made from what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mno import __version__
from mno.certificate.content import DATA_FILES, METRICS, PARAMS, WEIGHTS, WORKFLOW, Certificate
from mno.certificate.entities import (
    DATASET,
    MODEL,
    TOOL,
    Entity,
    property_values,
    reference,
    references,
)
from mno.lineage.audit.evidence import entry
from mno.lineage.dvcfiles import MAKING

_ENGINE, _LANGUAGE, _RUN = "#dvc", "#dvc-yaml", "#run"
_WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_DOES = {
    "generate": "Generates the data, or takes over imported ones",
    "train": "Trains the operator",
    "evaluate": "Evaluates it on the test data",
}


@dataclass(frozen=True)
class _Slot:
    """What goes into the line or comes out of it, by the file that stands for it."""

    id: str
    name: str
    file: str

    def entities(self) -> Iterator[Entity]:
        yield {
            "@id": self.id,
            "@type": "FormalParameter",
            "name": self.name,
            "additionalType": "File",
            "workExample": reference(self.file),
        }
        yield {"@id": self.file, "exampleOfWork": reference(self.id)}


_INPUT = _Slot("#input-parameters", "parameters", PARAMS)
_OUTPUTS = (
    _Slot("#output-data", "data", DATA_FILES),
    _Slot("#output-weights", "weights", WEIGHTS),
    _Slot("#output-metrics", "metrics", METRICS),
)


def line_entities(certificate: Certificate) -> Iterator[Entity]:
    """Yield the dataset, the programs, and the actions that made the model."""
    record = certificate.record
    sources = [_source(file) for file in entry(record, "data", "files") or ()]
    yield from sources
    yield {
        "@id": DATASET,
        "@type": "CreativeWork",
        "name": f"Dataset {entry(record, 'data', 'md5')}",
        "version": str(entry(record, "data", "md5")),
        **({"isBasedOn": references(source["@id"] for source in sources)} if sources else {}),
    }
    yield {
        "@id": TOOL,
        "@type": "SoftwareApplication",
        "name": "MNO",
        "softwareVersion": __version__,
    }
    if WORKFLOW in certificate.documents:
        yield from _workflow(certificate)
        yield from _actions(certificate, [source["@id"] for source in sources])
    else:
        yield {**_action("#run-train", "Training", record), "instrument": reference(TOOL),
               "object": reference(DATASET), "result": reference(MODEL)}  # fmt: skip


def _source(file: Mapping[str, Any]) -> Entity:
    return {
        "@id": f"#source-{file['sha256'][:16]}",
        "@type": "CreativeWork",
        "name": str(file["file"]),
        "sha256": str(file["sha256"]),
    }


def _workflow(certificate: Certificate) -> Iterator[Entity]:
    """Yield the stages as DVC knows them, and each as a program and a step."""
    commit = str(entry(certificate.record, "snapshot", "commit"))
    given = [slot for slot in (_INPUT, *_OUTPUTS) if slot.file in certificate.documents]
    outputs = [slot.id for slot in given if slot is not _INPUT]
    yield {
        "@id": WORKFLOW,
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "name": "The production line, from data to evaluated model",
        "version": commit,
        "conformsTo": reference(_WORKFLOW_PROFILE),
        "programmingLanguage": reference(_LANGUAGE),
        "hasPart": references(f"#stage-{stage}" for stage in MAKING),
        "step": references(f"#step-{stage}" for stage in MAKING),
        **({"input": reference(_INPUT.id)} if _INPUT in given else {}),
        **({"output": references(outputs)} if outputs else {}),
    }
    yield {
        "@id": _LANGUAGE,
        "@type": "ComputerLanguage",
        "name": "DVC pipeline",
        "url": "https://dvc.org/doc/user-guide/project-structure/dvcyaml-files",
    }
    for slot in given:
        yield from slot.entities()
    for position, stage in enumerate(MAKING, 1):
        yield {
            "@id": f"#stage-{stage}",
            "@type": "SoftwareSourceCode",
            "name": f"python -m pipelines.{stage}",
            "description": _DOES[stage],
            "version": commit,
        }
        yield {
            "@id": f"#step-{stage}",
            "@type": "HowToStep",
            "name": stage,
            "position": str(position),
            "workExample": reference(f"#stage-{stage}"),
        }


def _actions(certificate: Certificate, sources: list[str]) -> Iterator[Entity]:
    """Yield the run of the whole line, and the run of each stage in it."""
    record, files = certificate.record, certificate.documents
    versions = {package.name: package.version for package in certificate.packages}
    machine = {k: v for k, v in (record.get("machine") or {}).items() if v is not None}
    facts = list(property_values("machine", machine))
    chosen = list(property_values("parameter", certificate.params))
    yield from (*facts, *chosen)
    yield {
        "@id": _ENGINE,
        "@type": "SoftwareApplication",
        "name": "DVC",
        "url": "https://dvc.org",
        "softwareVersion": versions.get("dvc", "not known"),
    }
    params = [PARAMS] if PARAMS in files else []
    figures = [METRICS] if METRICS in files else []
    yield {
        "@id": "#organisation",
        "@type": "OrganizeAction",
        "name": "Run of the line by DVC",
        "instrument": reference(_ENGINE),
        "object": references(f"#control-{stage}" for stage in MAKING),
        "result": reference(_RUN),
    }
    yield {
        **_action(_RUN, "Run of the line", record),
        "instrument": reference(WORKFLOW),
        "object": references([*params, *(value["@id"] for value in chosen), *sources]),
        "result": references([DATASET, MODEL, *_results(files), *figures]),
        "additionalProperty": references(fact["@id"] for fact in facts),
    }
    made_from = {
        "generate": ([*params, *sources], [DATASET, *_present(files, DATA_FILES)]),
        "train": ([DATASET, *params], [MODEL, *_present(files, WEIGHTS)]),
        "evaluate": ([DATASET, MODEL, *params], figures),
    }
    for stage, (given, made) in made_from.items():
        yield {
            "@id": f"#control-{stage}",
            "@type": "ControlAction",
            "name": f"Step {stage}",
            "instrument": reference(f"#step-{stage}"),
            "object": reference(f"#run-{stage}"),
        }
        yield {
            "@id": f"#run-{stage}",
            "@type": "CreateAction",
            "name": f"Run of {stage}",
            "description": _DOES[stage],
            "instrument": reference(f"#stage-{stage}"),
            "object": references(given),
            "result": references(made),
        }


def _action(identity: str, name: str, record: Mapping[str, Any]) -> Entity:
    times = {"startTime": "started", "endTime": "registered"}
    known = {key: entry(record, "times", name) for key, name in times.items()}
    return {
        "@id": identity,
        "@type": "CreateAction",
        "name": name,
        "description": "Made the model, from the parameters to its figures",
        **{key: value for key, value in known.items() if value},
    }


def _results(files: Mapping[str, bytes]) -> list[str]:
    return _present(files, DATA_FILES, WEIGHTS)


def _present(files: Mapping[str, bytes], *names: str) -> list[str]:
    return [name for name in names if name in files]
