"""What is refused because of what the store holds already, in the words of one place."""

from __future__ import annotations

from attestation.refusals import RefusalCode
from verifier.errors import Conflict
from verifier.ports.credentials import IdentityClaim


def serial_taken() -> Conflict:
    """Return the refusal of a serial number that was given before."""
    return Conflict(RefusalCode.SERIAL_TAKEN, "the serial number was given before; try again")


def key_taken(holder: str) -> Conflict:
    """Return the refusal of a key that another holder has."""
    return Conflict(
        RefusalCode.KEY_ALREADY_CERTIFIED,
        f"this key was certified for {holder or 'a device of before'}; one key has one holder. "
        "Make a new key",
    )


def key_lost() -> Conflict:
    """Return the refusal of a key that somebody else may have."""
    return Conflict(
        RefusalCode.KEY_COMPROMISED,
        "a certificate over this key was revoked because the key is no secret any more; make a "
        "new key",
    )


def taken_by(one: IdentityClaim, holder: str) -> Conflict:
    """Return the refusal of an identity that another device is."""
    return Conflict(
        RefusalCode.IDENTITY_TAKEN,
        f"this {one.kind} belongs to device {holder}; two devices cannot be one. Find out "
        "which of them is a copy; hardware that was moved keeps the device id it had",
    )
