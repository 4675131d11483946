"""Import of CoRIMs: signed by somebody who is trusted here, or said aloud that nobody signed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from attestation.wire.corim import SignedCorim, open_corim
from verifier.errors import RequestRefused
from verifier.ports import DocumentKind, Store
from verifier.reference_values.corim_sets import Signer, load_signer, open_signed, sets_of
from verifier.reference_values.model import ReferenceSet
from verifier.services.reference_documents import ReferenceDocuments
from verifier.services.reference_values import ReferenceValues
from verifier.services.succession import require_heir


@dataclass(frozen=True, slots=True, kw_only=True)
class CorimTerms:
    """Under which terms a CoRIM is taken.

    Attributes:
        signer: (name, PEM text) of whoever must have signed it; None for any trusted signer.
        unsigned: Take one that nobody signed.
        profiles: Profiles whose meaning the operator knows to be the plain one.
        name: The set's name, where the CoRIM makes only one; empty for the maker's words.
    """

    signer: tuple[str, str] | None = None
    unsigned: bool = False
    profiles: frozenset[str] = frozenset()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCorim:
    """What a CoRIM gives.

    Attributes:
        sets: Reference sets with the version that they would have here.
        signer: Who signed it; empty if nobody did.
        notices: What it says besides, which is not used.
    """

    sets: tuple[ReferenceSet, ...]
    signer: str
    notices: tuple[str, ...]


class CorimImport:
    """The use case.

    Args:
        store: The store.
        values: Where the sets go.
    """

    def __init__(self, store: Store, values: ReferenceValues) -> None:
        self._documents = ReferenceDocuments(store)
        self._values = values

    def trust(self, name: str, pem: str, at: datetime) -> None:
        """Trust a signer's CoRIMs from now on.

        Raises:
            MalformedInput, UntrustedEndorsement: If it is no key or certificate of use now.
            RequestRefused: If the name is no name.
        """
        load_signer(pem, name, at)
        self._documents.put(DocumentKind.CORIM_SIGNER, name, pem, at)

    def read(self, raw: bytes, terms: CorimTerms, at: datetime) -> ReadCorim:
        """Read a CoRIM and change nothing.

        Raises:
            InputError: If it is malformed, or says what we must not ignore.
            VerificationError: ``corim-signer-unknown``, ``reference-not-in-force``.
            RequestRefused: If nobody signed it and the terms do not say that this is taken, it
                makes several sets of which only one could bear the name, or it would replace a
                newer version of its tag, or without being named a set that is not this signer's.
        """
        found, signer = open_corim(raw), None
        if isinstance(found, SignedCorim):
            corim, signer = open_signed(found, signers_of(self._documents, terms.signer, at), at)
        elif terms.signer is None and terms.unsigned:
            corim = found
        else:
            raise RequestRefused(
                RefusalCode.CORIM_SIGNER_UNKNOWN,
                "nobody signed this CoRIM. Ask its maker for a signed one; --unsigned takes it "
                "as it is, on your own word",
            )
        sets = sets_of(corim, signer, at, terms.profiles)
        if terms.name:
            if len(sets) > 1:
                raise RequestRefused(
                    RefusalCode.REQUEST_INVALID,
                    f"the CoRIM makes {len(sets)} sets ({', '.join(one.name for one in sets)}): "
                    "leave out --name",
                )
            sets = (replace(sets[0], name=terms.name),)
        present = self._values.names()
        for one in sets:
            require_heir(one, present, named=bool(terms.name))
        return ReadCorim(
            sets=tuple(self._values.as_next(one) for one in sets),
            signer=signer.name if signer is not None else "",
            notices=corim.notices,
        )


def signers_of(
    documents: ReferenceDocuments, pinned: tuple[str, str] | None, at: datetime
) -> list[Signer]:
    """Return whose manifests are believed: one that is named now, or all that are trusted here.

    Args:
        documents: Where signers are.
        pinned: (name, PEM text) of the one who must have signed; None for any trusted signer.
        at: Now (aware).

    Raises:
        MalformedInput, UntrustedEndorsement: If the pinned one is no key of use now.
    """
    if pinned is not None:
        name, pem = pinned
        return [load_signer(pem, name, at)]
    signers: list[Signer] = []
    for one in documents.list(DocumentKind.CORIM_SIGNER):
        # One signer whose certificate has ended must not stand in the way of the others.
        with suppress(AttestationError):
            signers.append(load_signer(one.document, one.name, at))
    return signers
