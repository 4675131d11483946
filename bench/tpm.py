"""The agent's quote against the bare library call, on one software TPM.

swtpm's speed says nothing about a hardware TPM; the ratio says what our adapter adds.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.crypto import SELECTION
from bench.measure import Bench, Line, Unable, compare
from deploy.demo.swtpm import SoftwareTpm, SoftwareTpmError

try:
    from tpm2_pytss import ESAPI, TPML_PCR_SELECTION

    from device_agent.tpm.adapter import EsapiTpm
    from device_agent.tpm.layout import TpmLayout
except ImportError as missing:
    raise ImportError(f"tpm2-pytss is not installed ({missing})") from missing


def quote_vs_raw() -> Iterator[Line]:
    """Time ``EsapiTpm.quote`` and a bare ``ESAPI.quote`` in turn."""
    try:
        with SoftwareTpm() as chip:
            yield _compared(chip)
    except SoftwareTpmError as error:
        raise Unable(str(error)) from error


def _compared(chip: SoftwareTpm) -> Line:
    layout = TpmLayout()
    agent = EsapiTpm(chip.tcti, layout=layout)
    agent.create_identity_keys()
    qualifying = bytes(32)
    with ESAPI(chip.tcti) as raw:
        key = raw.tr_from_tpmpublic(layout.iak_handle)
        pcrs = TPML_PCR_SELECTION.parse(SELECTION[0].describe())
        _, _, ratio = compare(
            lambda: agent.quote(SELECTION, qualifying),
            lambda: raw.quote(key, pcrs, qualifying),
            total_s=4,
        )
    agent.close()
    return Line(name="quote_vs_raw", value=ratio, unit="ratio", vs="TPM2_Quote", ratio=ratio)


BENCHES = (Bench(names=("quote_vs_raw",), run=quote_vs_raw),)
