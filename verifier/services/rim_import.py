"""Import of PC Client RIMs: a base RIM by a signer who is trusted here, and its support files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from attestation.refusals import RefusalCode
from verifier.appraisal.policy import AppraisalPolicy
from verifier.errors import RequestRefused
from verifier.ports import Store
from verifier.reference_values.model import ManifestTag, ReferenceSet
from verifier.reference_values.rim import match_support, read_base_rim
from verifier.reference_values.rim_signature import open_signed_tag
from verifier.services.corim_import import signers_of
from verifier.services.log_sets import set_of_log
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.reference_values import ReferenceValues
from verifier.services.succession import require_heir


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRim:
    """What a RIM gives.

    Attributes:
        sets: A reference set for each event log, with the version that it would have here.
        signer: Who signed the base RIM.
        notices: What it says besides, which is not used.
    """

    sets: tuple[ReferenceSet, ...]
    signer: str
    notices: tuple[str, ...]


class RimImport:
    """The use case.

    Args:
        store: The store.
        values: Where the sets go.
        policy: Says which PCRs are learnt.
    """

    def __init__(self, store: Store, values: ReferenceValues, policy: AppraisalPolicy) -> None:
        self._documents = ReferenceDocuments(store)
        self._values = values
        self._policy = policy

    def read(
        self,
        raw: bytes,
        support: Mapping[str, bytes],
        at: datetime,
        *,
        signer: tuple[str, str] | None = None,
        name: str = "",
    ) -> ReadRim:
        """Read a base RIM with its support files and change nothing.

        Args:
            raw: The base RIM: a signed SWID tag.
            support: The support files by the names that the operator knows them by; the caller
                bounds them.
            at: Now (aware).
            signer: (name, PEM text) of whoever must have signed it; None for any trusted signer.
            name: The set's name, where the RIM makes only one; empty for maker and model.

        Raises:
            InputError: If something is malformed or too large, or the event log does not cover
                the policy's PCRs.
            VerificationError: ``rim-signer-unknown``, ``rim-support-mismatch``, or the event log
                contradicts itself.
            RequestRefused: If it makes several sets of which only one could bear the name, or would
                replace a newer version of its tag, or without being named a set that is not this
                signer's.
        """
        tag, who = open_signed_tag(raw, signers_of(self._documents, signer, at))
        rim = read_base_rim(tag)
        matched = match_support(rim, support)
        logs = [(file, content) for file, content in matched if file.event_log]
        if name and len(logs) > 1:
            raise RequestRefused(
                RefusalCode.REQUEST_INVALID,
                f"the RIM has {len(logs)} event logs, each makes a set: leave out --name",
            )
        sets: list[ReferenceSet] = []
        for file, content in logs:
            chosen = name or (rim.platform if len(logs) == 1 else f"{rim.platform} {file.path}")
            learnt = set_of_log(content, chosen, at, self._policy, self._values.newest(chosen))
            words = f"{rim.describe()}, support RIM {file.path}, signed by {who.name}"
            made = ManifestTag(signer=who.name, tag=rim.tag_id, version=rim.tag_number)
            known = replace(learnt, description=words, to_review=frozenset(), manifest=made)
            require_heir(known, self._values.names(), named=bool(name))
            sets.append(known)
        unused = tuple(
            f"{file.path} is as signed, but no event log, and is not used"
            for file, _ in matched
            if not file.event_log
        )
        return ReadRim(sets=tuple(sets), signer=who.name, notices=(*rim.notices, *unused))
