"""First inputs of each fuzz target: ``python -m tests.fuzz.seeds`` writes those that are missing.

Taken from the conformance cases, from real samples and from the simulators, and the same in each
run: signatures are deterministic (RFC 6979). What is kept beside them in ``corpus/`` was found by
fuzzing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from jwt.utils import base64url_encode, der_to_raw_signature

from attestation.algorithms import HashAlgorithm
from attestation.certificates import parse_certificate
from attestation.identity import KeyName
from attestation.logs.cel import Measurement, RecordKind, content_digests, encode_content
from attestation.logs.cel import encode_record as encode_cel
from attestation.logs.tcg import parse_firmware_log
from attestation.tpm.ek_templates import EkTemplate, ek_template
from attestation.wire.attested_csr import Names, build_attested_csr
from attestation.wire.cmw import decode_collection, encode_record
from attestation.wire.ear import EarProfile, VerifierIdentity, encode_ear
from attestation.wire.enrolment_codec import (
    ActivationRequest,
    encode_activation,
    encode_enrolment,
)
from attestation.wire.est import NonceResponse, certs_only, encode_body, encode_nonce_response
from attestation.wire.manufacture_codec import (
    ActivationAnswerFile,
    ActivationChallengeFile,
    encode_answer,
    encode_challenge,
)
from tests.conformance.cases import ROOT, load, octets
from tests.conformance.generate.device import NOW, private_key
from tests.conformance.generate.logs import LOG
from tests.conformance.run.bench import banks, policy_of
from tests.conformance.run.enrolments import request_of
from tests.fuzz.agent_seeds import of_agents
from tests.fuzz.targets.ima_modsig import CONTENT, NUMBER
from tests.simulators import corim_press, rim_press, soft_agent, soft_modsig
from tests.simulators.soft_provider import SoftProvider
from tests.simulators.soft_tpm_maker import integer, sequence, tlv
from tests.simulators.uefi import device_security
from verifier.reference_values.golden import learn
from verifier.reference_values.toml_file import dump_reference_set

CORPUS: Final = Path(__file__).parent / "corpus"
_RIMS: Final = Path(__file__).parents[1] / "data" / "nsacyber_RIM-Tool"
_MOST_BYTES: Final = 20_000
_MOST_SEEDS: Final = 8
_POLICY_TARGETS: Final = {
    "enrolment": "enrolment_policy",
    "profiles": "certificate_profiles",
    "revocation": "revocation_policy",
}
_CLOUD_TARGETS: Final = {"aws-iid": "aws_document", "azure-msi": "azure_token"}
_EVENT_TARGETS: Final = {0x80000001: "uefi_variable", 0x80000002: "uefi_variable"}

Seeds = Iterator[tuple[str, bytes]]
"""(target, input)."""


def seeds() -> Seeds:
    """Yield every first input."""
    yield from _of_claims()
    yield from _of_cases()
    yield from _of_logs()
    yield from _of_documents()
    yield from _of_policies()
    yield from _of_ocsp()
    yield from _of_activation()
    yield from of_agents(private_key("an owner"))


def _of_cases() -> Seeds:
    for case in load().values():
        given = case.input
        if case.kind == "quote":
            yield "tpms_attest", octets(given["attest"])
            yield "tpmt_signature", octets(given["signature"])
            yield "tpmt_public", octets(given["ak"]["tpmt_public"])
            yield "attestation_key", octets(given["ak"]["tpmt_public"])
            yield "pcr_values", json.dumps(given.get("pcrs", {})).encode()
        elif case.kind == "evidence-sequence":
            yield from _of_evidence(octets(given["steps"][0]["evidence"]))
        elif case.kind == "enrolment":
            yield from _of_enrolment(given["request"])
            for der in given.get("revocation_lists", ()):
                yield "revocation_list", octets(der)
        elif case.kind == "tcg-csr":
            yield "tcg_csr", octets(given["request"])
        elif case.kind == "ek-certificate":
            yield "ek_certificate", octets(given["certificate"])
            yield "ek_chain", octets(given["certificate"]) + octets(given["roots"][0])
        elif case.kind == "cloud-statement":
            yield _CLOUD_TARGETS[given["cloud"]], given["statement"].encode()
        elif case.kind == "ima-list":
            yield "ima_list", octets(given["list"])
            yield "ima_follow", octets(given["list"])


def _of_evidence(message: bytes) -> Seeds:
    yield "evidence", message
    yield "evidence_memory", message
    yield "strict_cbor", message
    for record in decode_collection(message, limit_bytes=len(message)).records.values():
        yield "cmw_record", encode_record(record)
        yield "strict_cbor", record.value


def _of_enrolment(sent: Mapping[str, Any]) -> Seeds:
    yield "certificate", octets(sent["idevid_chain"][0])
    yield "certificate", octets(sent["iak_chain"][0])
    yield "pkcs10", octets(sent["csr"])
    yield "tpms_attest", octets(sent["ldevid_certify"]["attest"])
    request = request_of(sent)
    yield "enrolment", encode_enrolment(request)
    key = private_key("est seed")
    csr = build_attested_csr(
        request,
        Names(subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "seed")])),
        spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        sign=lambda data: key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)),
    )
    yield "attested_csr", csr
    yield "est_body", encode_body(octets(sent["csr"]))
    yield "est_body", encode_body(certs_only([parse_certificate(request.iak_chain[0])]))
    yield "est_nonce", b'{"len": 56, "reqTypeInfo": {"type": "1.2.3"}}'
    yield "est_nonce", encode_nonce_response(NonceResponse(nonce=bytes(56), expires_in_s=300))


def _of_activation() -> Seeds:
    digest, area = bytes(range(32)), ek_template(EkTemplate.P_256_LOW)
    yield (
        "activation",
        encode_activation(ActivationRequest(ek_public=area, ek_chain=(b"der",), iak_public=area)),
    )
    yield (
        "activation",
        encode_challenge(
            ActivationChallengeFile(
                request_sha256=digest,
                serial="EB-1",
                credential_blob=b"\0\2id",
                encrypted_secret=b"\0\2se",
            )
        ),
    )
    yield "activation", encode_answer(ActivationAnswerFile(request_sha256=digest, secret=digest))


def _of_claims() -> Seeds:
    """Yield what Azure signs; whole tokens come with the cases."""
    claims = {"iss": "https://sts.windows.net/0b1c/", "aud": "api://enrolment", "exp": 1777640400}
    resource = "/subscriptions/5f2e/resourcegroups/fleet/vm-1"
    yield "azure_token", json.dumps({**claims, "nbf": 1777636800, "xms_mirid": resource}).encode()


def _of_ocsp() -> Seeds:
    digests = (bytes(range(32)), bytes(32))
    plain = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*digests, 2**128, hashes.SHA256())
    asking = plain.add_extension(x509.OCSPNonce(bytes(range(16))), critical=False)
    for builder in (plain, asking):
        yield "ocsp_request", builder.build().public_bytes(Encoding.DER)


def _of_logs() -> Seeds:
    for path in sorted((ROOT / "tests/data/tpm2-software_tpm2-tools").glob("*.bin")):
        yield "firmware_log", path.read_bytes()
        yield "firmware_facts", path.read_bytes()
    listed = (ROOT / "tests/data/keylime_rust-keylime/ascii_runtime_measurements").read_bytes()
    lines = listed.splitlines(keepends=True)
    yield "ima_ascii", b"".join(lines[:3]).removeprefix(b"10 ")
    yield "ima_list", b"".join(lines[:8])
    yield "uefi_events", device_security()
    for event in parse_firmware_log((ROOT / LOG).read_bytes()).events:
        yield _EVENT_TARGETS.get(event.type, "uefi_events"), event.event
        if event.type in _EVENT_TARGETS:
            data = event.event[32 + 2 * int.from_bytes(event.event[16:24], "little") :]
            yield "signature_lists", data
            yield "device_path", data
        elif event.type == 0x80000003:  # EV_EFI_BOOT_SERVICES_APPLICATION
            yield "device_path", event.event[32:]


def _of_documents() -> Seeds:
    key = private_key("a maker of documents")
    yield "corim", corim_press.corim()
    yield "corim", corim_press.signed(key)
    yield "base_rim", (_RIMS / "laptop.SHA384.1.swidtag").read_bytes()
    yield "base_rim", rim_press.tag(rim_press.file(b"log")).encode()
    listing = soft_agent.text(soft_agent.aibom())
    yield "aibom", listing
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "aibom", "digest": {"sha256": hashlib.sha256(listing).hexdigest()}}],
        "predicateType": "https://example.org/endorsement/v1",
        "predicate": {},
    }
    payload = json.dumps(statement).encode()
    yield "in_toto_statement", payload
    yield "dsse", json.dumps(SoftProvider(key).envelope(payload)).encode()
    yield "agent_log", _agent_log()
    yield "ima_signature", bytes([3, 2, 4]) + b"kkkk" + b"\x00\x08" + b"s" * 8
    signature = key.sign(b"content", ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    for form in ((3, 2, 4), (3, 3, 4), (6, 3, 4)):
        head = bytes(form) + b"kkkk" + len(signature).to_bytes(2)
        yield "ima_signature", head + signature
    yield from _of_appended()
    yield from _of_results(key)


def _of_appended() -> Seeds:
    key = ec.derive_private_key(NUMBER, ec.SECP256R1())
    digest = hashlib.sha256(CONTENT).digest()
    named = sequence(soft_modsig.issuer("Example"), integer(7))
    signers = (
        soft_modsig.signer_info(key, digest),
        soft_modsig.signer_info(key, digest, signed=soft_modsig.attributes(digest)),
        soft_modsig.signer_info(key, digest, sid=named),
    )
    for signer in signers:
        yield "ima_modsig", soft_modsig.message(signer)
    yield "ima_modsig", soft_modsig.message(*signers, between=tlv(0xA0, named))


def _agent_log() -> bytes:
    banks = (HashAlgorithm.SHA256,)
    log = b""
    for number, path in enumerate(("/opt/agent/model.bin", "/opt/agent/run.py")):
        content = encode_content(
            Measurement(kind=RecordKind.FILE, path=path, digest=hashlib.sha256(b"x").digest())
        )
        log += encode_cel(number, 13, content_digests(content, banks), content)
    return log


def _of_results(key: ec.EllipticCurvePrivateKey) -> Seeds:
    from tests.attestation.wire.test_ear_dialects import result  # noqa: PLC0415 - a maker of one

    verifier = VerifierIdentity(developer="https://example.org", build="1.2.3")
    for profile in EarProfile:
        claims = encode_ear(
            result(),
            verifier=verifier,
            issued_at=NOW,
            expires_at=NOW + timedelta(minutes=5),
            profile=profile,
            ak_name=KeyName(b"\x00\x0b" + bytes(32)),
        )
        yield "ear_claims", json.dumps(claims).encode()
    header = {"alg": "ES256", "kid": "one", "typ": "JWT"}
    signed = b".".join(base64url_encode(json.dumps(part).encode()) for part in (header, claims))
    made = key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    yield "ear_jwt", signed + b"." + base64url_encode(der_to_raw_signature(made, key.curve))


def _of_policies() -> Seeds:
    for path in sorted((ROOT / "verifier/policies").glob("*.toml")):
        first, _, _ = path.name.partition("-")
        yield _POLICY_TARGETS.get(first, "appraisal_policy"), path.read_bytes()
    yield (
        "runtime_policy",
        (
            "name = 'x'\nversion = 1\nexclude = ['/var/log/**', '/srv/*.txt']\n"
            f"files = '''\nsha256:{'0' * 64}  /bin/sh\n'''\n"
            f"denied = '''\nsha1:{'0' * 40}  old sudo\n'''\n"
        ).encode(),
    )
    case = load()["quote-honest-p256"].input
    asked = policy_of(case["policy"]).selections
    learnt = learn("box", None, banks(case["pcrs"]), asked, NOW)
    yield "reference_set", dump_reference_set(learnt).encode()


def main(corpus: Path = CORPUS) -> int:
    """Write what is missing, a few of each target, none of them large; return how many."""
    new = 0
    written: dict[str, set[str]] = {}
    for target, content in seeds():
        names = written.setdefault(target, set())
        if not content or len(content) > _MOST_BYTES or len(names) >= _MOST_SEEDS:
            continue
        name = "seed-" + hashlib.sha256(content).hexdigest()[:12]
        names.add(name)
        path = corpus / target / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            new += 1
    return new


if __name__ == "__main__":
    sys.stdout.write(f"{main(*map(Path, sys.argv[1:]))} written\n")
