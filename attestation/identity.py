"""Names of devices, keys and nonces: one NewType each, one checked constructor each."""

from __future__ import annotations

import re
from typing import Final, NewType

from attestation.errors import MalformedInput
from attestation.limits import MAX_DEVICE_ID_CHARS
from attestation.refusals import RefusalCode

DeviceId = NewType("DeviceId", str)
"""``[a-z0-9-]``, 1 to 63 characters: one MQTT topic level, one DNS label, the certificate's CN."""

AgentName = NewType("AgentName", str)
"""Of an AI agent, unique on its device; written like a device id."""

KeyName = NewType("KeyName", bytes)
"""A TPM object Name: nameAlg (2 bytes) || H(TPMT_PUBLIC) (TPM 2.0 Part 1, 16)."""

Nonce = NewType("Nonce", bytes)
"""A challenge as the verifier made it. Never logged, never in an error."""

_DEVICE_ID: Final = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{MAX_DEVICE_ID_CHARS - 2}}}[a-z0-9])?")

RESERVED_DEVICE_IDS: Final = frozenset({"fleet", "query", "service", "verifier"})
"""Words with a meaning of their own in the topic tree or in a broker's access list."""


def device_id(text: str) -> DeviceId:
    """Return ``text`` as a device id.

    Raises:
        MalformedInput: If it is not 1 to 63 of ``a-z 0-9 -`` with no dash at the ends, or is one
            of :data:`RESERVED_DEVICE_IDS`.
    """
    if text in RESERVED_DEVICE_IDS:
        raise MalformedInput(
            RefusalCode.DEVICE_ID_INVALID,
            f"{text!r} is reserved and cannot name a device; give the device another serial number",
            structure="DeviceId",
        )
    if not _DEVICE_ID.fullmatch(text):
        raise MalformedInput(
            RefusalCode.DEVICE_ID_INVALID,
            f"{text[:80]!r} is not a device id: 1 to {MAX_DEVICE_ID_CHARS} of a-z, 0-9 and '-', "
            "no '-' at the ends",
            structure="DeviceId",
        )
    return DeviceId(text)


def agent_name(text: str) -> AgentName:
    """Return ``text`` as the name of an AI agent.

    Raises:
        MalformedInput: ``agent-name-invalid`` if it is not 1 to 63 of ``a-z 0-9 -`` with no dash at
            the ends.
    """
    if not _DEVICE_ID.fullmatch(text):
        raise MalformedInput(
            RefusalCode.AGENT_NAME_INVALID,
            f"{text[:80]!a} is not an agent's name: 1 to {MAX_DEVICE_ID_CHARS} of a-z, 0-9 and "
            "'-', no '-' at the ends",
            structure="AgentName",
        )
    return AgentName(text)
