from __future__ import annotations

from typing import Any

import pytest

from attestation.errors import InputError, LimitExceeded
from attestation.limits import MAX_AIBOM_BYTES, MAX_AIBOM_COMPONENTS
from attestation.wire.cyclonedx import Part, read_aibom
from tests.simulators import soft_agent


def read(bom: dict[str, Any]) -> Any:
    return read_aibom(soft_agent.text(bom))


def test_complete_aibom_lists_files_and_lacks_nothing() -> None:
    listing = read(soft_agent.aibom())

    assert listing.name == "field-assistant 2.1"
    assert listing.files.keys() == soft_agent.FILES.keys()
    assert listing.missing == ()
    assert [path for path, one in listing.files.items() if one.program] == [
        "agent.py",
        "models/tiny.onnx",
    ]


@pytest.mark.parametrize("version", ["1.6", "1.7"])
def test_both_versions_are_taken(version: str) -> None:
    assert read(soft_agent.aibom(specVersion=version)).files


def without(bom: dict[str, Any], kind: str) -> dict[str, Any]:
    bom["components"] = [one for one in bom["components"] if one["type"] != kind]
    return bom


def test_each_of_the_five_parts_is_missed() -> None:
    bom = soft_agent.aibom
    assert read(without(bom(), "machine-learning-model")).missing == (Part.MODELS,)
    assert read(without(bom(), "data")).missing == (Part.DATASETS,)
    assert read(without(bom(), "file")).missing == (Part.CONFIGURATIONS,)
    assert read(bom(dependencies=[])).missing == (Part.DEPENDENCIES,)
    assert read(without(bom(), "operating-system")).missing == (Part.INFRASTRUCTURE,)


def test_datasets_may_stand_in_a_model_card() -> None:
    bom = without(soft_agent.aibom(), "data")
    model = next(one for one in bom["components"] if one["type"] == "machine-learning-model")
    model["modelCard"] = {"modelParameters": {"datasets": [{"ref": "x"}]}}

    assert read(bom).missing == ()


def test_component_with_several_occurrences_stands_for_several_files() -> None:
    bom = soft_agent.aibom()
    bom["components"][0]["evidence"] = {"occurrences": [{"location": "a"}, {"location": "./b/c"}]}

    assert {"a", "b/c"} <= read(bom).files.keys()


def test_path_listed_twice_may_be_either() -> None:
    bom = soft_agent.aibom()
    bom["components"].append(soft_agent.component("agent.py", "data", b"other"))

    listed = read(bom).files["agent.py"]

    assert len(listed.digests) == 2
    assert listed.program


def test_hash_of_a_package_without_location_is_no_file() -> None:
    bom = soft_agent.aibom()
    bom["components"][-2]["hashes"] = [{"alg": "SHA-256", "content": "00" * 32}]

    assert read(bom).files.keys() == soft_agent.FILES.keys()


def test_nested_components_are_read() -> None:
    bom = soft_agent.aibom()
    inner = soft_agent.component("deep.py", "library", b"x")
    bom["components"][-1]["components"] = [inner]

    assert "deep.py" in read(bom).files


@pytest.mark.parametrize(
    "place", ["/etc/passwd", "../x", "a/../b", "", "a//b", "a/", "a\nb", "a\0", "./", 7]
)
def test_location_outside_the_root_is_refused(place: object) -> None:
    bom = soft_agent.aibom()
    bom["components"][0]["evidence"] = {"occurrences": [{"location": place}]}

    with pytest.raises(InputError, match=r"occurrence|location"):
        read(bom)


MALFORMED = {
    "not JSON": b"{",
    "UTF-16": soft_agent.text(soft_agent.aibom()).decode().encode("utf-16"),
    "a list": b"[]",
    "SPDX": soft_agent.text(soft_agent.aibom(bomFormat="SPDX")),
    "version 1.4": soft_agent.text(soft_agent.aibom(specVersion="1.4")),
    "no agent": soft_agent.text(soft_agent.aibom(metadata={})),
    "agent's name is hostile": soft_agent.text(
        soft_agent.aibom(metadata={"component": {"name": "x\x1b[2J", "type": "application"}})
    ),
    "no file": soft_agent.text(soft_agent.aibom({})),
    "key twice": soft_agent.text(soft_agent.aibom()).replace(
        b'"specVersion": "1.6"', b'"specVersion": "1.6", "specVersion": "1.6"'
    ),
    "NaN": b'{"bomFormat": NaN}',
    "deep": b"[" * 100_000,
    "components are text": soft_agent.text(soft_agent.aibom(components="x")),
    "bad digest": soft_agent.text(soft_agent.aibom()).replace(b'"content": "', b'"content": "zz'),
}


@pytest.mark.parametrize("document", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_aibom_is_refused(document: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_aibom(document)
    assert caught.value.code == "aibom-malformed"


def test_caps_are_held() -> None:
    with pytest.raises(LimitExceeded):
        read_aibom(bytes(MAX_AIBOM_BYTES + 1))
    with pytest.raises(LimitExceeded):
        read(soft_agent.aibom(components=[{}] * (MAX_AIBOM_COMPONENTS + 1)))
    nested: dict[str, Any] = {"name": "x"}
    for _ in range(20):
        nested = {"name": "x", "components": [nested]}
    with pytest.raises(LimitExceeded):
        read(soft_agent.aibom(components=[nested]))


def test_digest_is_of_the_documents_bytes() -> None:
    document = soft_agent.text(soft_agent.aibom())

    assert read_aibom(document + b" ").sha256 != read_aibom(document).sha256
    assert read_aibom(document).sha256.hex() == soft_agent.sha256(document)
