"""Binary IMA lists, followed to a quoted PCR that they may never reach."""

from __future__ import annotations

from attestation.algorithms import HashAlgorithm
from attestation.logs.ima.follow import Known, Place, follow
from verifier.appraisal.runtime_ledger import Ledger
from verifier.reference_values.runtime_policy_file import load_runtime_policy

_TEXT = f"""
name = 'fuzz'
exclude = ['/var/log/**']
files = '''
sha256:{"00" * 32}  /bin/sh
'''
"""
_POLICY = load_runtime_policy(_TEXT, "fuzz")


def run(data: bytes) -> None:
    """Read hostile bytes."""
    bank = HashAlgorithm.SHA256
    quoted = {bank: {10: b"\x01" * 32, 11: bytes(32)}}
    for padded in (False, True):
        place = Place(entries=0, start={}, quoted=quoted, padded=padded)
        ledger = Ledger(_POLICY, quoted, None)
        ledger.settle(follow(data, place, 10, Known(), ledger).unquoted)
