"""Runtime policies: which files a running system may run or read.

A policy is compiled once into the bytes that the kernel hashes, so that an entry is known by one
look into a set, however large the policy is, and every device that it applies to shares that set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from attestation.logs.ima.follow import Known
from attestation.logs.ima.modsig import Appended
from attestation.logs.ima.template import ImaFile, ng_data
from attestation.refusals import RefusalCode
from verifier.reference_values.runtime_globs import PathPatterns
from verifier.reference_values.runtime_keyring import Keyring, Signed

NO_PATTERNS: Final = PathPatterns(())
NO_KEYS: Final = Keyring()


class Against(NamedTuple):
    """What speaks against one file.

    Attributes:
        code: Stable code.
        reason: In words, to stand behind the file's name; may be empty.
    """

    code: RefusalCode
    reason: str = ""


_UNKNOWN: Final = Against(RefusalCode.IMA_FILE_UNKNOWN)
_BY_SIGNATURE: Final = {
    Signed.NOT: RefusalCode.IMA_FILE_UNKNOWN,
    Signed.BY_UNKNOWN: RefusalCode.IMA_SIGNER_UNKNOWN,
    Signed.WRONGLY: RefusalCode.IMA_SIGNATURE_INVALID,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuntimePolicy:
    """One runtime policy, compiled once and shared by every device that it applies to.

    Attributes:
        name: Its name, e.g. ``edge-box``.
        version: Counts up with every change.
        fingerprint: Start of the SHA-256 of its text: a changed text is another policy even if
            its version was forgotten.
        description: One sentence for people.
        known: Allowed files as the kernel hashes them; no denied digest is among them.
        denied: Denied digests (``algorithm:`` NUL digest) with the reason; they win over all.
        exclude: Paths that are left out, whatever their digest.
        listed: Paths that ``exclude`` matches and the allow-list names: their digest counts.
        keyring: Whose signatures make a file known.
    """

    name: str
    version: int
    fingerprint: str = ""
    description: str = ""
    known: Known = field(default_factory=Known, repr=False)
    denied: Mapping[bytes, str] = field(default_factory=dict, repr=False)
    exclude: PathPatterns = NO_PATTERNS
    listed: frozenset[bytes] = frozenset()
    keyring: Keyring = NO_KEYS

    @property
    def id(self) -> str:
        """Name, version and fingerprint: ``edge-box/3-5f1c0a9be210``."""
        return f"{self.name}/{self.version}" + (f"-{self.fingerprint}" if self.fingerprint else "")

    def against(self, file: ImaFile) -> Against | None:
        """Return what speaks against a file; None if nothing does.

        In this order: its digest, or that of its content without an appended signature, is denied;
        digest and path, or the digest, are allowed; its path is left out; its signature is judged;
        it is unknown. Who appends the same signature in another form changes the first digest and
        not the second; with signed attributes the second is theirs, and they name the content's.
        """
        denied = self.denied.get(file.digest)
        if denied is None and file.modsig_digest:
            denied = self.denied.get(file.modsig_digest)
        appended = Appended(file.modsig) if file.modsig else None
        if denied is None and appended and self.denied:
            denied = self.denied.get(appended.stated_digest())
        if denied is not None:
            return Against(RefusalCode.IMA_FILE_DENIED, denied)
        data = ng_data(file.digest, file.path)
        if data in self.known.entries or data[: 4 + len(file.digest)] in self.known.digests:
            return None
        if self.exclude.matches(file.path) and file.path not in self.listed:
            return None
        judged = self.keyring.judge(file, appended) if self.keyring else None
        if judged is None:
            return _UNKNOWN
        code = _BY_SIGNATURE.get(judged.signed)
        return None if code is None else Against(code, judged.reason)
