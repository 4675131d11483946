"""Allow lists of endorsement keys, and what may stand as a device's anchor."""

from __future__ import annotations

import pytest

from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import MAX_LISTED_EKS
from attestation.refusals import RefusalCode
from tests.simulators import soft_tpm_maker
from verifier.endorsement.trust_anchors import TrustAnchors
from verifier.endorsement.vendor_roots import PemFile, VendorRoots
from verifier.issuance.trust_sources import TrustSources, read_ek_list

ONE, TWO = bytes(range(32)), bytes(32)


def test_list_is_read_with_comments_blanks_and_either_case() -> None:
    text = f"# a heading\n\n  {ONE.hex().upper()}  # rack 7\n{TWO.hex()}\n{TWO.hex()}\n"

    assert read_ek_list(text, "eks.txt") == {ONE, TWO}


@pytest.mark.parametrize("line", ["abc", ONE.hex() + "00", ONE.hex()[:-1], "0x" + ONE.hex()[2:]])
def test_line_of_another_form_is_named(line: str) -> None:
    with pytest.raises(MalformedInput, match=r"eks.txt, line 2") as caught:
        read_ek_list(f"{ONE.hex()}\n{line}\n", "eks.txt")
    assert caught.value.code is RefusalCode.POLICY_INVALID


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n"])
def test_empty_list_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput, match="empty"):
        read_ek_list(text, "eks.txt")


def test_list_is_bounded() -> None:
    lines = (f"{number:064x}" for number in range(MAX_LISTED_EKS + 1))

    with pytest.raises(LimitExceeded):
        read_ek_list("\n".join(lines), "eks.txt")


def test_makers_roots_and_listed_keys_may_stand_as_anchors_and_nothing_else() -> None:
    roots = VendorRoots.from_operator([PemFile(origin="maker", content=soft_tpm_maker.root().der)])
    sources = TrustSources(ek_roots=roots, listed_eks=frozenset({ONE}))
    anchors = TrustAnchors.from_pem(endorsers=sources.endorsers)

    assert roots.roots[0].sha256 in anchors
    assert ONE in anchors
    assert TWO not in anchors
    assert TrustSources().endorsers == frozenset()
