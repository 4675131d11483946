"""Files with appended and version 3 signatures, from the quote to the finding."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.logs.ima.framing import ImaEntry
from attestation.refusals import RefusalCode
from tests.simulators.soft_modsig import (
    file_id_signature,
    modsig,
    modsig_data,
    verity_data,
)
from tests.verifier.appraisal.test_runtime import Running, codes, of, public
from verifier.appraisal.runtime_ledger import MAX_SIGNATURES, Ledger
from verifier.reference_values.runtime_policy_file import load_runtime_policy

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
DIGEST = hashlib.sha256(b"c").digest()
SIGNERS = f"[[signers]]\nname = 'build'\npem = '''{public(KEY)}'''"


def test_signed_modules_and_verity_files_are_clean_and_strangers_are_named_with_why() -> None:
    court = Running(SIGNERS)
    verity = file_id_signature(KEY, DIGEST, 6)
    court.kernel.measure_data(
        modsig_data(b"/lib/a.ko", b"c", modsig(KEY, b"c")), template=b"ima-modsig"
    )
    court.kernel.measure_data(verity_data(b"/usr/bin/a", b"c", verity), template=b"ima-sigv2")
    clean = court.look()
    for path, data, template in (
        (b"/lib/b.ko", modsig(OTHER, b"c"), b"ima-modsig"),
        (b"/lib/c.ko", modsig(KEY, b"other"), b"ima-modsig"),
        (b"/lib/d.ko", modsig(KEY, b"c")[:-1], b"ima-modsig"),
    ):
        court.kernel.measure_data(modsig_data(path, b"c", data), template=template)
    court.kernel.measure_data(verity_data(b"/usr/bin/b", b"d", verity), template=b"ima-sigv2")

    result = court.look()

    assert codes(clean) == set()
    assert of(clean, "runtime-clean").value == 2
    assert result.progress is not None
    assert result.progress.counts == {"ima-signature-invalid": 3, "ima-signer-unknown": 1}
    unknown = of(result, RefusalCode.IMA_SIGNER_UNKNOWN)
    assert "/lib/b.ko" in unknown.reason
    assert "key id " in unknown.reason
    wrong = of(result, RefusalCode.IMA_SIGNATURE_INVALID)
    assert wrong.value == 96
    for words in ("/lib/c.ko", "did not sign what was measured", "/lib/d.ko", "DER", "/usr/bin/b"):
        assert words in wrong.reason


def test_signatures_in_a_list_that_is_not_proven_are_not_verified() -> None:
    policy = load_runtime_policy(f"name = 'box'\n{SIGNERS}", "test")
    ledger = Ledger(policy, {}, None)
    data = modsig_data(b"/lib/a.ko", b"c", modsig(OTHER, b"c"))

    ledger.judge(1, ImaEntry(10, b"\1" * 20, b"ima-modsig", data))

    assert ledger.counts == {}
    ledger.settle({})
    assert ledger.counts == {"ima-signer-unknown": 1}


def test_signatures_beyond_the_most_that_are_verified_count_for_nothing() -> None:
    ledger = Ledger(load_runtime_policy(f"name = 'box'\n{SIGNERS}", "test"), {}, None)
    data = modsig_data(b"/lib/a.ko", b"c", modsig(KEY, b"c"))
    for number in range(1, MAX_SIGNATURES + 3):
        ledger.judge(number, ImaEntry(10, b"\1" * 20, b"ima-modsig", data))

    ledger.settle({})

    assert ledger.counts == {"ima-file-unknown": 2}
