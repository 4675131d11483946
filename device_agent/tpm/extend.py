"""TPM2_PCR_Extend in all given banks at once, and never twice for one measurement."""

from __future__ import annotations

from collections.abc import Mapping

from tpm2_pytss import TSS2_Exception
from tpm2_pytss.constants import ESYS_TR
from tpm2_pytss.types import TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from attestation.algorithms import HashAlgorithm
from device_agent.errors import TpmUnavailable
from device_agent.tpm.connection import OpenTpm, asks_for_time


class Extension:
    """One TPM2_PCR_Extend as an operation for :meth:`TpmConnection.run`.

    The connection may run an operation again. An extend must not be: where the first command may
    have reached the TPM, the second run refuses, and the caller reads the PCR to see.

    Args:
        pcr: The PCR.
        digests: What to extend, by bank.
    """

    def __init__(self, pcr: int, digests: Mapping[HashAlgorithm, bytes]) -> None:
        self._pcr = ESYS_TR(pcr)
        self._values = TPML_DIGEST_VALUES(
            [
                TPMT_HA(hashAlg=int(bank), digest=TPMU_HA(**{bank.label: digest}))
                for bank, digest in digests.items()
            ]
        )
        self._unsure = False

    def __call__(self, tpm: OpenTpm) -> None:
        """Extend (TPM 2.0 Part 3, 22.2).

        Raises:
            TpmUnavailable: If an earlier run may have extended already.
        """
        if self._unsure:
            raise TpmUnavailable(
                "extend a PCR: the connection was lost while the TPM worked; whether it extended "
                "is read from the PCR next time"
            )
        self._unsure = True
        try:
            tpm.esapi.pcr_extend(self._pcr, self._values)
        except TSS2_Exception as error:
            # A warning that asks for time means that the command was not carried out.
            self._unsure = not asks_for_time(int(error.rc))
            raise
        self._unsure = False
