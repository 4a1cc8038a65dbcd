"""The model that a training starts from, by version, alias or folder, held to its digest."""

from __future__ import annotations

import shutil

import pytest
from registry_shop import Shop

from mno.core.errors import InputError
from mno.lineage.record import candidate_digest, lineage_sha256, start_record
from mno.lineage.snapshot import take_snapshot
from pipelines.training import find_warm_start


def weights_of(surrogate) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in surrogate.operator.state_dict().items()}


def refusal(shop: Shop, given: str) -> str:
    with pytest.raises(InputError) as caught:
        find_warm_start(shop.root, given)
    message = str(caught.value)
    assert given.partition("#")[0] in message
    assert "\n" not in message
    return message


def test_a_folder_is_found_by_its_digest_and_refused_once_it_holds_another_model(shop: Shop):
    assert find_warm_start(shop.root, None) is None
    shop.train(seed=1, tracked=False)
    kept = shop.root / "kept"
    shutil.copytree(shop.candidate, kept)
    digest = candidate_digest(kept)
    assert f"write train.warm_start=kept#{digest[:16]}" in refusal(shop, "kept")
    for pin in (digest, digest[:12]):
        found = find_warm_start(shop.root, f"kept#{pin}")
        assert found is not None
        assert (found.sha256, found.version) == (digest, None)
    assert find_warm_start(shop.root, f"{kept}#{digest[:16]}") is not None
    shop.train(seed=2, tracked=False)
    shutil.copytree(shop.candidate, kept, dirs_exist_ok=True)
    other = candidate_digest(kept)
    message = refusal(shop, f"kept#{digest[:16]}")
    assert "another model now" in message
    assert f"write train.warm_start=kept#{other[:16]}" in message


@pytest.mark.parametrize("given", ["nowhere", "nowhere#0123456789ab", "mno"])
def test_a_folder_without_a_model_is_refused(shop: Shop, given: str):
    assert given.partition("#")[0] in refusal(shop, given)


def test_versions_and_aliases_are_found_and_a_moved_alias_is_refused(shop: Shop):
    registered = shop.register(shop.train(seed=1))
    digest = registered["record"]["model"]["sha256"]
    assert registered["version"] == 1
    pinned = f"models:/mno-darcy/1#{digest[:16]}"
    assert f"write train.warm_start={pinned}" in refusal(shop, "models:/mno-darcy/1")
    assert f"write train.warm_start={pinned}" in refusal(shop, "models:/mno-darcy@champion")
    by_alias = find_warm_start(shop.root, f"models:/mno-darcy@champion#{digest[:16]}")
    by_number = find_warm_start(shop.root, pinned)
    assert by_alias is not None
    assert by_number is not None
    assert by_alias.version == by_number.version == "models:/mno-darcy/1"
    assert by_alias.sha256 == by_number.sha256 == digest
    assert weights_of(by_alias.surrogate) == weights_of(by_number.surrogate)

    better = shop.train(seed=2)
    second = shop.register(type(better)(**{**vars(better), "relative_l2": 0.01}))
    assert (second["version"], second["alias"]) == (2, "champion")
    message = refusal(shop, f"models:/mno-darcy@champion#{digest[:16]}")
    now = second["record"]["model"]["sha256"][:16]
    assert f"write train.warm_start=models:/mno-darcy/2#{now}" in message
    assert find_warm_start(shop.root, pinned) is not None, "the version still is what it was"

    for absent in ("models:/mno-darcy/7", "models:/mno-darcy@best", "models:/mno-heat/1"):
        assert "not in the registry" in refusal(shop, absent)
    for wrong in ("models:/mno-darcy", "models:/mno-darcy/latest", "models:mno-darcy/1"):
        assert "expected models:/NAME/VERSION" in refusal(shop, wrong)

    weights = next(shop.root.glob("mlartifacts/**/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")  # any digest will do
    said = [refusal(shop, f"models:/mno-darcy/{version}") for version in (1, 2)]
    assert sum("missing or altered" in message for message in said) == 1


def test_the_record_names_what_training_starts_from(shop: Shop):
    def record(**start):
        at = (shop.root, take_snapshot(shop.root), {"scenario": "darcy"})
        return start_record(*at, threads=1, device="cpu", **start)

    plain, started = record(), record(warm_start_sha256="a" * 64, ids={"warm_start": "models:/m/3"})
    assert "warm_start" not in plain
    assert started["warm_start"] == {"sha256": "a" * 64}
    assert started["ids"] == {"warm_start": "models:/m/3"}
    assert lineage_sha256(plain) != lineage_sha256(started)
    elsewhere = record(warm_start_sha256="a" * 64, ids={"warm_start": "models:/m/1"})
    assert lineage_sha256(elsewhere) == lineage_sha256(started)
    assert lineage_sha256(record(warm_start_sha256="b" * 64)) != lineage_sha256(started)
