"""``verifier query DEVICE --mqtt URL``: ask over MQTT 5, and believe only the signature.

The answer's own words are shown only after the signed result in it has been checked against the
verifier's key set: signature, expiry, and that it speaks of the device that was asked about.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path
from typing import Annotated, Final
from urllib.error import URLError
from urllib.parse import urlsplit

import typer
from cryptography import x509

from attestation.errors import AttestationError, IdentityMismatch
from attestation.identity import DeviceId, device_id
from attestation.refusals import RefusalCode
from attestation.result import TrustTier
from attestation.wire.ear import Ear, verify_ear_jwt
from verifier.api.documents import moment
from verifier.cli import output
from verifier.cli.context import Json
from verifier.cli.failures import complain
from verifier.cli.question import CORRELATION_BYTES, Connection, Question
from verifier.cli.reference_values import read_bounded
from verifier.errors import NotFound, RequestRefused, ServiceError, Unavailable
from verifier.sources import SystemClock, SystemEntropy

AFFIRMING, NOT_AFFIRMING, REFUSED, NO_ANSWER = 0, 1, 2, 4
MAX_KEY_SET_BYTES: Final = 256 * 1024


def command(
    device: Annotated[str, typer.Argument(help="Device id.")],
    *,
    mqtt: Annotated[str, typer.Option(help="Broker: mqtts://host:port")],
    jwks: Annotated[str, typer.Option(help="The verifier's key set: a file or an https URL.")],
    ca: Annotated[
        Path | None, typer.Option(readable=False, help="CA of broker and key set, PEM.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(readable=False, help="Our certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(readable=False, help="Our key, PEM.")] = None,
    requester: Annotated[str, typer.Option(help="Our name; default: the certificate's CN.")] = "",
    prefix: Annotated[str, typer.Option(help="Topic prefix.")] = "att/v1",
    timeout: Annotated[float, typer.Option(min=0.1, max=120, help="Seconds.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Ask for a device's status and check the signed answer.

    Exit codes: 0 affirming, 1 not affirming, 2 refused or malformed, 4 no answer.
    """
    try:
        asked = device_id(device)
        connection = _connection(mqtt, ca, cert, key, prefix, timeout)
        correlation = SystemEntropy().take(CORRELATION_BYTES)
        answer = Question(connection, requester or _common_name(cert), asked, correlation).ask()
        if answer is None:
            raise typer.Exit(_no_answer(connection))
        ear = _believe(answer, asked, load_key_set(jwks, ca))
    except Unavailable as error:
        complain(error.code, error.reason)
        raise typer.Exit(NO_ANSWER) from error
    except (AttestationError, ServiceError) as error:
        complain(error.code, error.reason)
        raise typer.Exit(REFUSED) from error
    _tell(asked, ear, answer, as_json=as_json)
    raise typer.Exit(AFFIRMING if ear.status is TrustTier.AFFIRMING else NOT_AFFIRMING)


def _believe(answer: bytes, asked: DeviceId, keys: dict[str, object]) -> Ear:
    """Return the signed result in an answer, proven.

    Raises:
        NotFound: If the verifier says that it has none.
        RequestRefused: If the answer is not one.
        VerificationError: If the result is forged, expired or about another device.
    """
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise _malformed("is not JSON") from error
    if not isinstance(document, dict):
        raise _malformed("is not a JSON object")
    if "error" in document:
        code = str(document["error"])
        known = RefusalCode(code) if code in set(RefusalCode) else RefusalCode.RESULT_ABSENT
        raise NotFound(known, str(document.get("detail", "the verifier gave no result"))[:300])
    token = document.get("ear")
    if not isinstance(token, str):
        raise _malformed("holds no signed result")
    ear = verify_ear_jwt(token, keys, at=SystemClock().now())
    if set(ear.submods) != {asked}:
        raise IdentityMismatch(
            RefusalCode.RESULT_SIGNATURE_INVALID,
            f"the signed result speaks of {', '.join(sorted(ear.submods))[:120]}, "
            f"asked was {asked}",
            structure="EAR",
        )
    return ear


def _tell(asked: DeviceId, ear: Ear, answer: bytes, *, as_json: bool) -> None:
    appraisal = ear.submods[asked]
    claimed = json.loads(answer)
    document = {
        "device_id": asked,
        "status": ear.status.label,
        "vector": appraisal.vector.as_claims(),
        "reasons": list(appraisal.reasons),
        "issued_at": moment(ear.issued_at),
        "expires_at": moment(ear.expires_at) if ear.expires_at else None,
        "signature": "verified",
        "told": {"allow": claimed.get("allow"), "age_s": claimed.get("age_s")},
    }
    if as_json:
        output.say_json(document)
        return
    output.say(f"{asked}: {ear.status.label} (signature verified, issued {document['issued_at']})")
    for reason in appraisal.reasons:
        output.say(f"  - {reason}")


def load_key_set(named: str, ca: Path | None) -> dict[str, object]:
    """Load a JWK set from a file or an https URL.

    Raises:
        RequestRefused: If it is neither, or not a JWK set.
        Unavailable: If the URL cannot be reached.
    """
    if "://" in named:
        if not named.startswith("https://"):
            raise RequestRefused(RefusalCode.REQUEST_INVALID, "--jwks takes a file or an https URL")
        context = ssl.create_default_context(cafile=ca)
        try:
            with urllib.request.urlopen(named, timeout=10, context=context) as got:  # noqa: S310 - https only, checked above
                raw: bytes = got.read(MAX_KEY_SET_BYTES)
        except (URLError, OSError) as error:
            raise Unavailable(RefusalCode.VERIFIER_UNREACHABLE, f"{named}: {error}") from error
    else:
        raw = read_bounded(Path(named), MAX_KEY_SET_BYTES)
    try:
        keys = json.loads(raw)
    except ValueError as error:
        raise RequestRefused(RefusalCode.KEY_MALFORMED, f"{named} is not JSON") from error
    if not isinstance(keys, dict) or not isinstance(keys.get("keys"), list):
        raise RequestRefused(RefusalCode.KEY_MALFORMED, f"{named} is not a JWK set")
    return keys


def _connection(
    url: str, ca: Path | None, cert: Path | None, key: Path | None, prefix: str, timeout: float
) -> Connection:
    parts = urlsplit(url)
    if parts.scheme != "mqtts" or not parts.hostname:
        raise RequestRefused(
            RefusalCode.REQUEST_INVALID, f"--mqtt {url!r} is not of the form mqtts://host:port"
        )
    for path in (ca, cert, key):
        if path is not None and not path.is_file():
            raise RequestRefused(RefusalCode.REQUEST_INVALID, f"{path} is not a file")
    return Connection(
        host=parts.hostname,
        port=parts.port or 8883,
        ca=ca,
        certificate=cert,
        key=key,
        prefix=prefix,
        timeout_s=timeout,
    )


def _common_name(cert: Path | None) -> str:
    if cert is None:
        raise RequestRefused(RefusalCode.REQUEST_INVALID, "give --cert and --key, or --requester")
    try:
        certificate = x509.load_pem_x509_certificate(read_bounded(cert, MAX_KEY_SET_BYTES))
    except ValueError as error:
        raise RequestRefused(
            RefusalCode.CERTIFICATE_MALFORMED, f"{cert} is not a PEM certificate"
        ) from error
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if not names:
        raise RequestRefused(
            RefusalCode.CERTIFICATE_PROFILE_WRONG, f"{cert} has no CN; give --requester"
        )
    return str(names[0].value)


def _no_answer(connection: Connection) -> int:
    complain(
        RefusalCode.VERIFIER_UNREACHABLE,
        f"no answer within {connection.timeout_s:g} s over {connection.host}:{connection.port}",
    )
    return NO_ANSWER


def _malformed(how: str) -> RequestRefused:
    return RequestRefused(RefusalCode.RESULT_MALFORMED, f"the answer {how}")
