"""Known faults and habits of firmware, boot loaders and operating systems, each with a name.

Code that tolerates one says so by its name, facts name those they met
(``BootFacts.quirks``), and a policy may forbid any of them by name. Nothing is tolerated that is
not in this table. Where a quirk is refused, the entry says what a person will see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class QuirkName(StrEnum):
    """Stable names; see :data:`QUIRKS` for what each is."""

    SHIM_SURPLUS = "shim-surplus-bytes"
    BOOT_VARIABLE_DATA_ONLY = "boot-variable-data-only"
    SECURE_BOOT_EMPTY = "secure-boot-variable-empty"
    SECURE_BOOT_MISSING = "secure-boot-not-measured"
    CRTM_LIKE_SEPARATOR = "crtm-contents-like-separator"
    CRTM_VERSION_UNPROVEN = "crtm-version-not-its-digest"
    APPLICATION_BEFORE_BOOT = "application-before-boot-option"
    EXIT_BOOT_SERVICES_MISSING = "exit-boot-services-missing"
    SYSTEMD_BOOT_SHORT = "systemd-boot-one-byte-short"
    SHIM_IMAGE_EVENT_EMPTY = "shim-image-event-empty"
    NO_ACTION_WITHOUT_PCR = "no-action-without-pcr"
    EVENT_LACKS_BANK = "event-lacks-bank"
    WINDOWS_CAPS_BANK = "windows-caps-bank"
    VENDOR_EVENT_TYPE = "vendor-event-type"
    VENDOR_INFO_OUTSIDE = "vendor-info-outside-event"
    ACTION_NOT_STANDARD = "action-not-standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """One known deviation.

    Attributes:
        name: Its stable name.
        tolerated: True if the log is believed in spite of it; False if it is refused, or a fact
            is withheld.
        what: What is seen.
        why: Why it is tolerated and what still protects, or why it is not.
        source: A public report, standard or document.
        sample: A log of ``tests/data`` that shows it.
    """

    name: QuirkName
    tolerated: bool
    what: str
    why: str
    source: str
    sample: str


_TABLE: Final = (
    Quirk(
        name=QuirkName.SHIM_SURPLUS,
        tolerated=True,
        what="shim before 15.3 logs its certificate variable Shim with 6 bytes too many and "
        "hashes all but the last byte.",
        why="Taken for that variable of that vendor GUID and that surplus only, and only if the "
        "digest is that of the content without its last byte.",
        source="rhboot/shim issue 184; google/go-attestation issue 157",
        sample="google_go-attestation/sb_cert_eventlog",
    ),
    Quirk(
        name=QuirkName.BOOT_VARIABLE_DATA_ONLY,
        tolerated=True,
        what="EV_EFI_VARIABLE_BOOT hashes the variable's data alone, without GUID and name.",
        why="What PFP before 1.05 asked for, and most firmware does. The data is proven, the "
        "name (which Boot####) is not: boot entries are told, never used to admit anything.",
        source="TCG PC Client Platform Firmware Profile 1.04, 3.3.4, against 1.05, 10.4",
        sample="google_go-tpm-tools/gdc-host.bin",
    ),
    Quirk(
        name=QuirkName.SECURE_BOOT_EMPTY,
        tolerated=True,
        what="The variable SecureBoot is measured with no data: it does not exist.",
        why="Firmware without Secure Boot or with no keys. It counts as off, the worse value.",
        source="PFP 1.06, 3.3.4 (absent variables); tpm2-software/tpm2-tools issue 2881",
        sample="google_go-eventlog/tpm/arch-linux-workstation.bin",
    ),
    Quirk(
        name=QuirkName.SECURE_BOOT_MISSING,
        tolerated=False,
        what="PCR 7 has a separator and authorities, but no SecureBoot, PK, KEK, db or dbx.",
        why="Whether Secure Boot was on is then not told: silence is not a good fact.",
        source="PFP 1.06, 3.3.4 demands these variables",
        sample="immune-gmbh_guard-oss/bundle/IMN-SUPERMICRO-no-epp/eventlog",
    ),
    Quirk(
        name=QuirkName.CRTM_LIKE_SEPARATOR,
        tolerated=True,
        what="EV_S_CRTM_CONTENTS or EV_S_CRTM_VERSION in PCR 0 has the digest of a separator: "
        "four zero bytes.",
        why="Some firmware measures four zero bytes as a part of its root of trust. Only these "
        "types, only in PCR 0, and the one genuine separator must still be there.",
        source="PFP 1.06, 3.3.4; google/go-eventlog, glinux-alex sample",
        sample="google_go-eventlog/tpm/glinux-alex.bin",
    ),
    Quirk(
        name=QuirkName.CRTM_VERSION_UNPROVEN,
        tolerated=True,
        what="EV_S_CRTM_VERSION does not hash to its digest: more was hashed than logged.",
        why="The PCR value stands, the firmware version is not told.",
        source="PFP 1.06, 10.4.1 asks for the hash of the content",
        sample="google_go-tpm-tools/gdc-host.bin",
    ),
    Quirk(
        name=QuirkName.APPLICATION_BEFORE_BOOT,
        tolerated=True,
        what="A boot application is measured into PCR 4 before the firmware calls a boot option.",
        why="Agents of the maker that live in the firmware do that. The image is told with "
        "before_separator, so that it is never taken for a boot loader.",
        source="google/go-tpm-tools, server option AllowEFIAppBeforeCallingEvent",
        sample="google_go-tpm-tools/gdc-host.bin",
    ),
    Quirk(
        name=QuirkName.EXIT_BOOT_SERVICES_MISSING,
        tolerated=False,
        what="No event says that boot services were left.",
        why="The log was read before, or the kernel left out the firmware's final events. Boot "
        "applications are then not told: what came later could not be held apart.",
        source="google/go-attestation, eventlog_workarounds.go",
        sample="google_go-attestation/ebs_event_missing_eventlog",
    ),
    Quirk(
        name=QuirkName.SYSTEMD_BOOT_SHORT,
        tolerated=True,
        what="systemd-boot before 251 logs its command line in PCR 8 with the last byte missing.",
        why="Taken only if the digest is that of the content with one zero byte more.",
        source="systemd/systemd issue 22635 and pull request 2587",
        sample="google_go-eventlog/tpm/arch-linux-workstation.bin",
    ),
    Quirk(
        name=QuirkName.SHIM_IMAGE_EVENT_EMPTY,
        tolerated=True,
        what="The image load event of an image that shim or GRUB loaded holds no device path.",
        why="The content is not covered by the digest and is a hint only; the digest counts.",
        source="PFP 1.06, 10.2",
        sample="google_go-attestation/sb_cert_eventlog",
    ),
    Quirk(
        name=QuirkName.NO_ACTION_WITHOUT_PCR,
        tolerated=True,
        what="EV_NO_ACTION for PCR 0xFFFFFFFF (Windows' trust point).",
        why="It extends nothing. Any other event type with that PCR is refused.",
        source="tpm2-software/tpm2-tools GHSA-qp88-8f4j-wv7q; PFP 1.06, 10.2",
        sample="immune-gmbh_guard-oss/bundle/IMN-SUPERMICRO-no-epp/eventlog",
    ),
    Quirk(
        name=QuirkName.EVENT_LACKS_BANK,
        tolerated=True,
        what="Windows logs its own events with the digest of one bank only.",
        why="The PCR is then not covered in the other bank: no value, no fact, and several banks "
        "of one quote are found to disagree if it is one of PCR 0 to 7.",
        source="PFP 1.06, 10.2 (TPML_DIGEST_VALUES)",
        sample="immune-gmbh_guard-oss/bundle/IMN-SUPERMICRO-no-epp/eventlog",
    ),
    Quirk(
        name=QuirkName.WINDOWS_CAPS_BANK,
        tolerated=False,
        what="Windows caps the bank that it does not use with one extend that no log has.",
        why="The log does not lead to the quoted SHA-1 values: quote the bank that Windows uses.",
        source="immune-gmbh/guard-oss, sample IMN-SUPERMICRO",
        sample="immune-gmbh_guard-oss/bundle/IMN-SUPERMICRO-no-epp/eventlog",
    ),
    Quirk(
        name=QuirkName.VENDOR_EVENT_TYPE,
        tolerated=False,
        what="An event type that the standard does not name (0x8401 in PCR 2).",
        why="A type is the only thing that says what a digest stands for; an unknown one could "
        "hide anything, so it is a trouble of its PCR.",
        source="PFP 1.06, table 27",
        sample="keylime_rust-keylime/uefi_log.bin",
    ),
    Quirk(
        name=QuirkName.VENDOR_INFO_OUTSIDE,
        tolerated=False,
        what="The Specification ID event announces vendor information outside of its own bytes.",
        why="Reading it would need to guess where the next event starts.",
        source="tpm2-software/tpm2-tools, fixture specid-vendordata; PFP 1.06, 10.4",
        sample="tpm2-software_tpm2-tools/specid-vendordata.bin",
    ),
    Quirk(
        name=QuirkName.ACTION_NOT_STANDARD,
        tolerated=True,
        what="EV_EFI_ACTION in PCR 7 with a text that the standard does not know "
        "(Security Level is Downgraded to 0).",
        why="The text is what was measured. It is told among the firmware's actions.",
        source="PFP 1.06, 10.4.3",
        sample="immune-gmbh_guard-oss/bundle/test-HP-EliteBook-830-G6-baseline/eventlog",
    ),
)

QUIRKS: Final[Mapping[QuirkName, Quirk]] = MappingProxyType({quirk.name: quirk for quirk in _TABLE})
"""Every known quirk by name."""
