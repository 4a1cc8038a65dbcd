"""An imported dataset as a whole: several files, again and again, interrupted, altered."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from mno.core.errors import InputError, MnoError
from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.imported import FOLDER, Imported
from mno.data.reading import read_split, verify
from mno.imports.collection import (
    Outcome,
    Step,
    checksum,
    import_files,
    look,
    read_list,
    sweep,
    taking_checksums,
)
from mno.imports.mapping import FieldRule, Mapping
from mno.scenarios.imported import ImportedFile, ImportedParameters, SplitRule
from tests.support.file_hashes import hashes

ALONE = ExecutionConfig(workers=1)
SHARES = SplitConfig(train=0.6, validation=0.2, test=0.2)


def write(path: Path, samples: int, seed: int = 0, size: int = 6) -> Path:
    rng = np.random.default_rng(seed)
    coeff = rng.random((samples, size, size), dtype=np.float32)
    np.savez(path, coeff=coeff, sol=2 * coeff, viscosity=np.linspace(0, 1, samples))
    return path


def bring(root: Path, *paths: Path, mapping: Mapping | None = None, **options) -> Outcome:
    return import_files(root / FOLDER / "plant", paths, "npz", mapping, **options)


def released(root: Path, outcome: Outcome, split: SplitRule | None = None, samples: int = 1000):
    """Make the dataset as the stage `generate` does; return its report and its store."""
    files = [
        ImportedFile(file=p.file, sha256=p.sha256, content=p.content) for p in outcome.list.parts
    ]
    parameters = ImportedParameters(name="plant", files=files, split=split or SplitRule())
    config = GenerateConfig(samples=samples, resolution=6, shard_size=4, seed=0, split=SHARES)
    plan = make_plan(Imported, parameters, config, "code", root)
    return generate(plan, root / "work" / plan.digest, root / "data", ALONE), root / "data"


def test_a_file_becomes_a_dataset_with_every_value_and_its_checksum(tmp_path) -> None:
    file = write(tmp_path / "a.npz", 20)
    report, store = released(tmp_path, bring(tmp_path, file))
    assert report.samples == 20 and report.splits == {"train": 12, "validation": 4, "test": 4}
    assert verify(store) == []
    given = np.load(file)
    for name in ("train", "validation", "test"):
        split = read_split(store, name)
        assert np.array_equal(split.fields["coeff"], given["coeff"][split.indices])
        assert np.array_equal(split.fields["sol"], given["sol"][split.indices])
        expected = given["viscosity"][split.indices].astype(np.float32)
        assert np.array_equal(split.fields["viscosity"], expected)
    (source,) = read_split(store, "test").schema.sources
    assert (source["file"], source["sha256"]) == ("a.npz", checksum(file))
    assert (source["importer"], source["importer_version"]) == ("npz", 1)


def test_the_same_file_is_recognised_and_another_is_added(tmp_path) -> None:
    first = bring(tmp_path, write(tmp_path / "a.npz", 20))
    copy = shutil.copy(tmp_path / "a.npz", tmp_path / "copy.npz")
    again = bring(tmp_path, Path(copy))
    assert (again.added, again.known) == ((), first.added)
    assert again.list == first.list
    more = bring(tmp_path, write(tmp_path / "b.npz", 10, seed=1))
    assert [p.file for p in more.list.parts] == ["a.npz", "b.npz"]
    assert more.list.parts[0] == first.list.parts[0]
    report, store = released(tmp_path, more)
    assert report.samples == 30
    test = read_split(store, "test")
    both = np.concatenate([np.load(tmp_path / f"{n}.npz")["sol"] for n in "ab"])
    assert np.array_equal(test.fields["sol"], both[test.indices])
    assert len(test.schema.sources) == 2


def test_fewer_samples_are_spread_over_all_files(tmp_path) -> None:
    outcome = bring(tmp_path, write(tmp_path / "a.npz", 20), write(tmp_path / "b.npz", 10, 1))
    report, store = released(tmp_path, outcome, samples=15)
    assert report.samples == 15
    both = np.concatenate([np.load(tmp_path / f"{n}.npz")["sol"] for n in "ab"])
    train = read_split(store, "train")
    assert np.array_equal(train.fields["sol"], both[2 * train.indices])


def test_equal_inputs_stay_in_one_split(tmp_path) -> None:
    coeff = np.repeat(np.random.default_rng(0).random((10, 4, 4), dtype=np.float32), 3, axis=0)
    np.savez(tmp_path / "a.npz", coeff=coeff, sol=coeff)
    report, store = released(tmp_path, bring(tmp_path, tmp_path / "a.npz"))
    assert report.faults.duplicate_samples == 20
    assert report.faults.samples_in_two_splits == 0
    assert report.splits == {"train": 18, "validation": 6, "test": 6}


def test_a_split_that_would_tear_equal_inputs_apart_is_refused(tmp_path) -> None:
    coeff = np.repeat(np.random.default_rng(0).random((10, 4, 4), dtype=np.float32), 2, axis=0)
    constant = np.ones_like(coeff)
    np.savez(tmp_path / "a.npz", coeff=constant, sol=coeff, viscosity=np.zeros(20))
    rule = SplitRule(by="parameter", field="viscosity", validation=(0, 1), test=(5, 6))
    with pytest.raises(InputError, match="leaves no sample for train and test"):
        released(tmp_path, bring(tmp_path, tmp_path / "a.npz"), rule)


def test_a_mapping_renames_converts_and_splits(tmp_path) -> None:
    mapping = Mapping(
        fields={
            "coeff": FieldRule(name="temperature", units="K", given_in="degC"),
            "sol": FieldRule(name="pressure", units="Pa", given_in="bar"),
            "viscosity": FieldRule(name="load", drop=False),
        },
        split=SplitRule(by="parameter", field="load", validation=(0.7, 0.85), test=(0.86, 1.0)),
    )
    outcome = bring(tmp_path, write(tmp_path / "a.npz", 20), mapping=mapping)
    report, store = released(tmp_path, outcome, outcome.list.mapping.split)
    given, test = np.load(tmp_path / "a.npz"), read_split(store, "test")
    assert test.indices.tolist() == [17, 18, 19]
    assert np.allclose(test.fields["temperature"], given["coeff"][17:] + 273.15, atol=1e-4)
    assert np.allclose(test.fields["pressure"], given["sol"][17:] * 1e5)
    assert {f.name: f.units for f in test.schema.fields} == {
        "temperature": "K", "pressure": "Pa", "load": "1",
    }  # fmt: skip


def test_more_files_take_the_mapping_of_the_first(tmp_path) -> None:
    mapping = Mapping(fields={"sol": FieldRule(name="pressure")})
    bring(tmp_path, write(tmp_path / "a.npz", 20), mapping=mapping)
    outcome = bring(tmp_path, write(tmp_path / "b.npz", 10, 1))
    _, store = released(tmp_path, outcome)
    assert [f.name for f in read_split(store, "test").schema.outputs] == ["pressure"]
    with pytest.raises(InputError, match="was imported with another mapping"):
        bring(tmp_path, tmp_path / "b.npz", mapping=Mapping())


def test_a_replacement_that_fails_or_is_interrupted_leaves_the_dataset_usable(tmp_path) -> None:
    first = bring(tmp_path, write(tmp_path / "a.npz", 20))

    def interrupt(step: Step) -> None:
        if step.doing == "convert":
            raise KeyboardInterrupt

    write(tmp_path / "b.npz", 10, seed=1)
    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path, tmp_path / "b.npz", progress=interrupt, replace=True)
    assert released(tmp_path, first)[0].samples == 20
    second = bring(tmp_path, tmp_path / "b.npz", replace=True)
    assert [part.file for part in second.list.parts] == ["b.npz"]
    assert released(tmp_path, first)[0].samples == 20
    sweep(tmp_path / FOLDER / "plant", second.list)
    assert released(tmp_path, second)[0].samples == 10
    with pytest.raises(InputError, match="a.npz .* is not imported here"):
        released(tmp_path, first)


def test_an_interrupted_import_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mno.imports.convert.SHARD_BYTES", 2_000)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    file = write(tmp_path / "a.npz", 60)
    expected = bring(whole, file)
    steps: list[Step] = []

    def interrupt(step: Step) -> None:
        steps.append(step)
        if step.doing == "convert" and step.done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(torn, file, progress=interrupt)
    assert read_list(torn / FOLDER / "plant") is None
    assert steps[-1].done < steps[-1].total
    resumed: list[Step] = []
    assert bring(torn, file, progress=resumed.append).list == expected.list
    first = next(step for step in resumed if step.doing == "convert")
    assert first.done == steps[-1].done > 0
    assert hashes(torn) == hashes(whole)


def test_a_file_that_is_changed_while_it_is_imported_is_not_listed(tmp_path) -> None:
    file = write(tmp_path / "a.npz", 20)

    def change(step: Step) -> None:
        if step.doing == "convert" and step.done == step.total:
            write(file, 20, seed=1)

    with pytest.raises(MnoError, match="a.npz was changed while it was imported; import it again"):
        bring(tmp_path, file, progress=change)
    assert read_list(tmp_path / FOLDER / "plant") is None
    outcome = bring(tmp_path, file)
    assert outcome.added[0].sha256 == checksum(file)
    _, store = released(tmp_path, outcome)
    test = read_split(store, "test")
    assert np.array_equal(test.fields["sol"], np.load(file)["sol"][test.indices])


def test_the_same_file_twice_in_one_import_is_taken_once(tmp_path) -> None:
    file = write(tmp_path / "a.npz", 20)
    outcome = bring(tmp_path, file, Path(shutil.copy(file, tmp_path / "copy.npz")))
    assert [part.file for part in outcome.list.parts] == ["a.npz"]
    assert outcome.known == outcome.added


def test_a_checksum_that_nobody_waits_for_is_given_up(tmp_path) -> None:
    large, other = tmp_path / "large", tmp_path / "other"
    with large.open("wb") as file:
        file.truncate(2**40)  # a hole: hours to read, nothing to store
    other.write_bytes(b"text")
    begun = time.monotonic()
    with taking_checksums([other, large]) as sha256:
        assert sha256(other) == hashlib.sha256(b"text").hexdigest()
    assert time.monotonic() - begun < 60


def test_files_that_do_not_fit_each_other_change_nothing(tmp_path) -> None:
    first = bring(tmp_path, write(tmp_path / "a.npz", 20))
    before = hashes(tmp_path / FOLDER)
    with pytest.raises(InputError, match="b.npz has .* places"):
        bring(tmp_path, write(tmp_path / "b.npz", 10, size=8))
    assert hashes(tmp_path / FOLDER) == before
    assert bring(tmp_path, tmp_path / "a.npz").list == first.list


def test_altered_parts_are_found_before_they_are_used(tmp_path) -> None:
    outcome = bring(tmp_path, write(tmp_path / "a.npz", 20))
    (part,) = (tmp_path / FOLDER / "plant" / "parts").iterdir()
    shard = next(p for p in (part / "sol").rglob("*") if p.is_file() and p.name != "zarr.json")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(MnoError, match="sol/.* does not match its recorded sha256"):
        released(tmp_path, outcome)
    root = json.loads((part / "zarr.json").read_text())
    root["attributes"]["scenario"] = "another"
    (part / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(InputError, match="is not what params.yaml names"):
        released(tmp_path, outcome)
    shutil.rmtree(part)
    with pytest.raises(InputError, match="a.npz .* is not imported here; import it again"):
        released(tmp_path, outcome)
    assert bring(tmp_path, tmp_path / "a.npz").list == outcome.list
    assert released(tmp_path, outcome)[0].samples == 20


def test_infinite_and_missing_values_are_refused_by_name(tmp_path) -> None:
    for value, name in ((np.inf, "infinite"), (np.nan, "missing values .*gaps: true")):
        coeff = np.random.default_rng(0).random((10, 4, 4), dtype=np.float32)
        coeff[3, 1, 1] = value
        np.savez(tmp_path / "a.npz", coeff=coeff, sol=coeff)
        with pytest.raises(InputError, match=f"coeff.*{name}"):
            bring(tmp_path, tmp_path / "a.npz")
        assert read_list(tmp_path / FOLDER / "plant") is None


def test_missing_values_are_kept_where_the_mapping_allows_them(tmp_path) -> None:
    coeff = np.random.default_rng(0).random((10, 4, 4), dtype=np.float32)
    coeff[:, 1, 1] = np.nan
    np.savez(tmp_path / "a.npz", coeff=coeff, sol=coeff)
    rules = {name: FieldRule(gaps=True) for name in ("coeff", "sol")}
    report, store = released(
        tmp_path, bring(tmp_path, tmp_path / "a.npz", mapping=Mapping(fields=rules))
    )
    assert report.fields["coeff"].missing == 10
    assert report.faults.values_not_finite == 0
    test = read_split(store, "test")
    assert np.array_equal(np.isnan(test.fields["coeff"]), np.isnan(coeff[test.indices]))
    assert all(field.gaps for field in test.schema.fields)


def test_a_damaged_list_is_one_line(tmp_path) -> None:
    bring(tmp_path, write(tmp_path / "a.npz", 20))
    listed = tmp_path / FOLDER / "plant" / "import.json"
    listed.write_text(listed.read_text()[:50])
    with pytest.raises(MnoError, match="import.json was damaged; remove .* and import") as caught:
        bring(tmp_path, tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def test_looking_writes_nothing(tmp_path) -> None:
    write(tmp_path / "a.npz", 20)
    contents = look(tmp_path / "a.npz", "npz", Mapping())
    assert contents.samples == 20
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
