from __future__ import annotations

import pytest

from attestation.tpm.templates import KeyTemplate
from device_agent.errors import SettingsInvalid
from device_agent.ports import KeyRole
from device_agent.tpm.layout import TpmLayout


def test_each_role_has_its_own_place() -> None:
    layout = TpmLayout()
    assert len({layout.handle(role) for role in KeyRole}) == 4
    assert layout.certificate_index(KeyRole.IDEVID) != layout.certificate_index(KeyRole.IAK)
    with pytest.raises(ValueError, match="state folder"):
        layout.certificate_index(KeyRole.LDEVID)
    with pytest.raises(ValueError, match="state folder"):
        layout.certificate_index(KeyRole.LDEVID_2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iak_handle": 0x81800000}, "outside 0x81000000"),
        ({"ldevid_handle": 0x80000000}, "outside 0x81000000"),
        ({"iak_certificate_nv": 0x81020000}, "outside 0x01000000"),
        ({"iak_handle": 0x81020000}, "used twice"),
        ({"ldevid_2_handle": 0x81000010}, "used twice"),
        ({"iak_certificate_nv": 0x01C90000}, "used twice"),
    ],
)
def test_a_layout_that_cannot_work_is_refused(changes: dict[str, int], words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        TpmLayout(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("template", KeyTemplate)
def test_every_template_may_be_manufactured(template: KeyTemplate) -> None:
    assert TpmLayout(template=template).template is template
