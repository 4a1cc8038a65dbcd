"""An imported dataset as a whole: several files, again and again, interrupted, altered."""

import json
import random
import shutil
import subprocess
import sys
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
from mno.imports.collection import Step, checksum, import_files, look, read_list, sweep
from mno.imports.importer import scale_said
from mno.imports.mapping import FieldRule, Mapping, conversion
from mno.scenarios.imported import ImportedFile, ImportedParameters, SplitRule
from tests.support.file_hashes import hashes

ALONE = ExecutionConfig(workers=1)
SHARES = SplitConfig(train=0.6, validation=0.2, test=0.2)


def write(path, samples, seed=0, size=6):
    coeff = np.random.default_rng(seed).random((samples, size, size), dtype=np.float32)
    np.savez(path, coeff=coeff, sol=2 * coeff, viscosity=np.linspace(0, 1, samples))
    return path


def bring(root, *paths, mapping=None, **options):
    return import_files(root / FOLDER / "plant", paths, "npz", mapping, **options)


def released(root, outcome, split=None, samples=1000):
    """Make the dataset as the stage `generate` does; return its report and its store."""
    files = [
        ImportedFile(file=p.file, sha256=p.sha256, content=p.content) for p in outcome.list.parts
    ]
    parameters = ImportedParameters(name="plant", files=files, split=split or SplitRule())
    config = GenerateConfig(samples=samples, resolution=6, shard_size=4, seed=0, split=SHARES)
    plan = make_plan(Imported, parameters, config, "code", root)
    return generate(plan, root / "work" / plan.digest, root / "data", ALONE), root / "data"


def test_a_file_becomes_a_dataset_with_every_value_and_its_checksum(tmp_path):
    file = write(tmp_path / "a.npz", 20)
    assert look(file, "npz", Mapping()).samples == 20
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"], "looking writes nothing"
    assert look(file, "npz", Mapping()).samples == 20
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"], "looking writes nothing"
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


def test_the_same_file_is_recognised_and_another_is_added(tmp_path):
    file = write(tmp_path / "a.npz", 20)
    copy = Path(shutil.copy(file, tmp_path / "copy.npz"))
    first = bring(tmp_path, file, copy)
    assert [part.file for part in first.list.parts] == ["a.npz"] and first.known == first.added
    again = bring(tmp_path, copy)
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


def test_fewer_samples_are_spread_over_all_files(tmp_path):
    outcome = bring(tmp_path, write(tmp_path / "a.npz", 20), write(tmp_path / "b.npz", 10, 1))
    report, store = released(tmp_path, outcome, samples=15)
    assert report.samples == 15
    both = np.concatenate([np.load(tmp_path / f"{n}.npz")["sol"] for n in "ab"])
    train = read_split(store, "train")
    assert np.array_equal(train.fields["sol"], both[2 * train.indices])


def test_equal_inputs_stay_in_one_split(tmp_path):
    coeff = np.repeat(np.random.default_rng(0).random((10, 4, 4), dtype=np.float32), 3, axis=0)
    np.savez(tmp_path / "a.npz", coeff=coeff, sol=coeff)
    report, store = released(tmp_path, bring(tmp_path, tmp_path / "a.npz"))
    assert report.faults.duplicate_samples == 20
    assert report.faults.samples_in_two_splits == 0
    assert report.splits == {"train": 18, "validation": 6, "test": 6}


def test_a_split_that_would_tear_equal_inputs_apart_is_refused(tmp_path):
    coeff = np.repeat(np.random.default_rng(0).random((10, 4, 4), dtype=np.float32), 2, axis=0)
    np.savez(tmp_path / "a.npz", coeff=np.ones_like(coeff), sol=coeff, viscosity=np.zeros(20))
    rule = SplitRule(by="parameter", field="viscosity", validation=(0, 1), test=(5, 6))
    with pytest.raises(InputError, match="leaves no sample for train and test"):
        released(tmp_path, bring(tmp_path, tmp_path / "a.npz"), rule)


def test_a_mapping_renames_converts_and_splits(tmp_path):
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


def test_more_files_take_the_mapping_of_the_first(tmp_path):
    mapping = Mapping(fields={"sol": FieldRule(name="pressure")})
    bring(tmp_path, write(tmp_path / "a.npz", 20), mapping=mapping)
    _, store = released(tmp_path, bring(tmp_path, write(tmp_path / "b.npz", 10, 1)))
    assert [f.name for f in read_split(store, "test").schema.outputs] == ["pressure"]
    with pytest.raises(InputError, match="was imported with another mapping"):
        bring(tmp_path, tmp_path / "b.npz", mapping=Mapping())


def test_a_replacement_that_fails_or_is_interrupted_leaves_the_dataset_usable(tmp_path):
    first = bring(tmp_path, write(tmp_path / "a.npz", 20))

    def interrupt(step):
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


def test_an_interrupted_import_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("mno.imports.convert.SHARD_BYTES", 2_000)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    file = write(tmp_path / "a.npz", 60)
    expected = bring(whole, file)
    steps: list[Step] = []

    def interrupt(step):
        steps.append(step)
        if step.doing == "convert" and step.done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(torn, file, progress=interrupt)
    assert read_list(torn / FOLDER / "plant") is None
    assert steps[-1].done < steps[-1].total
    resumed: list[Step] = []
    assert bring(torn, file, progress=resumed.append).list == expected.list
    assert next(step for step in resumed if step.doing == "convert").done == steps[-1].done > 0
    assert hashes(torn) == hashes(whole)


def test_a_file_that_is_changed_while_it_is_imported_is_not_listed(tmp_path):
    file = write(tmp_path / "a.npz", 20)

    def change(step):
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


def test_files_that_do_not_fit_each_other_change_nothing(tmp_path):
    first = bring(tmp_path, write(tmp_path / "a.npz", 20))
    before = hashes(tmp_path / FOLDER)
    with pytest.raises(InputError, match="b.npz has .* places"):
        bring(tmp_path, write(tmp_path / "b.npz", 10, size=8))
    assert hashes(tmp_path / FOLDER) == before
    assert bring(tmp_path, tmp_path / "a.npz").list == first.list


def test_altered_parts_are_found_before_they_are_used(tmp_path):
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


def test_infinite_and_missing_values_are_refused_by_name(tmp_path):
    for value, name in ((np.inf, "infinite"), (np.nan, "missing values .*gaps: true")):
        coeff = np.random.default_rng(0).random((10, 4, 4), dtype=np.float32)
        coeff[3, 1, 1] = value
        np.savez(tmp_path / "a.npz", coeff=coeff, sol=coeff)
        with pytest.raises(InputError, match=f"coeff.*{name}"):
            bring(tmp_path, tmp_path / "a.npz")
        assert read_list(tmp_path / FOLDER / "plant") is None


def test_missing_values_are_kept_where_the_mapping_allows_them(tmp_path):
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


def test_a_damaged_list_is_one_line(tmp_path):
    bring(tmp_path, write(tmp_path / "a.npz", 20))
    listed = tmp_path / FOLDER / "plant" / "import.json"
    listed.write_text(listed.read_text()[:50])
    with pytest.raises(MnoError, match="import.json was damaged; remove .* and import") as caught:
        bring(tmp_path, tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


# Shards are small, so that there are many.
SCRIPT = """
import sys
from pathlib import Path
from mno.imports import convert
from mno.imports.collection import import_files

convert.SHARD_BYTES = 20_000
import_files(Path(sys.argv[1]), [Path(sys.argv[2])], "npz", None)
"""
KILLS = 8


def start(folder, file):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(file)])


@pytest.mark.slow
def test_a_killed_import_goes_on_and_ends_in_the_same_bytes(tmp_path):
    coeff = np.random.default_rng(0).random((1500, 16, 16), dtype=np.float32)
    file = tmp_path / "a.npz"
    np.savez(file, coeff=coeff, sol=coeff)
    whole, torn = tmp_path / "whole" / "plant", tmp_path / "torn" / "plant"
    assert start(whole, file).wait() == 0

    moments, counts = random.Random(1), []
    for _ in range(KILLS):
        process = start(torn, file)
        before = len(list(torn.glob("work/shards/*/done/*.json")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(torn.glob("work/shards/*/done/*.json"))) > before:
                time.sleep(moments.random() * 0.1)
                break
            time.sleep(0.002)
        process.kill()
        process.wait()
        counts.append(len(list(torn.glob("work/shards/*/done/*.json"))))
        if (torn / "import.json").exists():
            break
    assert len(counts) > 2 and counts[0] > 0
    assert counts[:-1] == sorted(counts[:-1]), "what is finished is kept"
    assert start(torn, file).wait() == 0
    assert hashes(torn) == hashes(whole)


@pytest.mark.parametrize(
    ("given", "wanted", "value", "expected"),
    [
        ("degC", "K", 25.0, 298.15),
        ("bar", "Pa", 2.0, 2e5),
        ("degF", "degC", 212.0, 100.0),
        ("mm", "m", 5.0, 5e-3),
        ("1", "1", 3.0, 3.0),
        ("kW/m^2", "W/m^2", 1.5, 1500.0),
        ("percent", "1", 50.0, 0.5),
        ("kg*m/s**2", "N", 2.0, 2.0),
        ("W m^-2 K^-1", "W/(m^2*K)", 2.0, 2.0),
        # As plants and conventions write them.
        ("bar", "Pa", 0.0, 0.0),
        ("degC", "K", 0.0, 273.15),
        ("m3/h", "m^3/s", 3600.0, 1.0),
        ("W m-2 K-1", "kW/m^2/K", 1000.0, 1.0),
        ("kg m2", "kg*m^2", 1.0, 1.0),
        ("%", "1", 1.0, 0.01),
    ],
)
def test_values_are_converted(given, wanted, value, expected):
    factor, offset = conversion(given, wanted, "temperature")
    assert factor * value + offset == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ("bar", "K", "temperature is given in bar .* cannot be converted to K"),
        ("blorb", "K", "'blorb' is no unit"),
        ("foo(", "foo(", "temperature: 'foo.' is no unit"),
        ("K", "__import__('os')", "is no unit"),
        ("9**9**9", "K", "is no unit"),
        ("9^9^9", "K", "is no unit"),
        ("(9**99)**99", "K", "is no unit"),
        ("9**9999999999", "K", "is no unit"),
        ("m" * 1000, "K", "is no unit"),
        *(
            (unit, "m", "is no unit that is known here")
            for unit in ("9**9**9**9", "9^9^9*m", "(9)**9**9", "m**(9**9)", "9⁹⁹⁹", "m999")
        ),
        ("m*" * 30 + "m", "m", "is no unit that is known here"),
        ("dBm", "W", "which no factor converts to W"),
        ("Np", "1", "which no factor converts to 1"),
    ],
)
def test_what_does_not_fit_is_one_line(given, wanted, message):
    with pytest.raises(InputError, match=message) as caught:
        conversion(given, wanted, "temperature")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "npz", "zarr"])
def test_a_folder_that_is_none_of_the_kind_is_refused_before_its_files_are_read(tmp_path, kind):
    write(tmp_path / "a.npz", 3)
    steps = []
    with pytest.raises(InputError, match="cannot be read: it .*; expected"):
        import_files(tmp_path / FOLDER / "plant", [tmp_path], kind, None, steps.append)
    assert steps == []


def write_materials(path, low, high, seed=0):
    draw = np.random.default_rng(seed)
    kappa = (10.0 ** draw.uniform(np.log10(low), np.log10(high), (20, 12, 12))).astype(np.float32)
    kappa[0, 0, 0] = 1e6  # an outlier of one value
    narrow, some = draw.uniform(1e-5, 1, (2, 20, 12, 12)).astype(np.float32)
    some[1, 1, 1] = 0.0
    fields = {"kappa": kappa, "narrow": narrow, "some": some * 1e3, "rate": np.full(20, low)}
    np.savez(path, sol=kappa, **fields)
    return path


def test_an_input_that_spans_decades_in_all_files_together_is_taken_as_a_logarithm(tmp_path):
    rules = {n: FieldRule(role="input") for n in ("kappa", "narrow", "some", "rate")}
    mapping = Mapping(fields=rules | {"sol": FieldRule(role="output")})
    outcome = bring(tmp_path, write_materials(tmp_path / "a.npz", 0.3, 20), mapping=mapping)

    def scales(outcome):
        (tmp_path / "work").exists() and shutil.rmtree(tmp_path / "work")
        fields = read_split(released(tmp_path, outcome)[1], "train").schema.fields
        return {field.name: field.scale for field in fields}

    assert set(scales(outcome).values()) == {"plain"}
    outcome = bring(tmp_path, write_materials(tmp_path / "b.npz", 40, 90, seed=1))
    plain = dict.fromkeys(("narrow", "some", "sol"), "plain")
    assert scales(outcome) == plain | {"kappa": "log", "rate": "log"}


def test_a_dataset_keeps_its_scales_and_others_files_have_none(tmp_path):
    attributes = {"role": "input", "scale": "less ambient"}
    assert scale_said(attributes) == "less ambient"
    assert scale_said({"scale": "log"}) == scale_said({"role": "input", "scale": "x"}) == "plain"
