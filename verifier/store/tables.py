"""The tables, nothing else. Times are microseconds since 1970 UTC; JSON is compact text.

A device's results are numbered 1, 2, 3 … without gaps: (device_id, seq) names a result everywhere.
The alembic migrations make these tables; a test holds both together.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

RowNumber = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only for INTEGER primary keys."""

devices: Final = Table(
    "devices",
    metadata,
    Column("device_id", String(63), primary_key=True),
    Column("ak_public", LargeBinary, nullable=False),
    Column("ak_name", LargeBinary, nullable=False),
    Column("hardware_serial", Text, nullable=False),
    Column("idevid_sha256", LargeBinary, nullable=False),
    Column("anchor_sha256", LargeBinary, nullable=False),
    Column("endorsed_from_us", BigInteger, nullable=False),
    Column("endorsed_until_us", BigInteger, nullable=False),
    Column("device_class", String(63), nullable=False),
    Column("certificate_sha256", LargeBinary, nullable=False),
    Column("certificate_not_after_us", BigInteger, nullable=False),
    Column("enrolled_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    Column("revoked_reason", Text, nullable=False, server_default=""),
    Column("last_clock_ms", BigInteger),
    Column("last_reset_count", BigInteger),
    Column("last_restart_count", BigInteger),
    Column("last_safe", Boolean),
    Column("last_nonce_us", BigInteger),
    Column("progress", Text),
    Column("certificate_ids", LargeBinary),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("decommission_us", BigInteger),
    Column("decommission_told", Boolean, nullable=False, server_default=false()),
)
_PLANNED = devices.c.decommission_us.is_not(None)
Index(
    "ix_devices_decommission_us",
    devices.c.decommission_us,
    sqlite_where=_PLANNED,
    postgresql_where=_PLANNED,
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, index=True),
    Column("serial", String(40), nullable=False, unique=True),
    Column("der", LargeBinary, nullable=False),
    Column("not_before_us", BigInteger, nullable=False),
    Column("not_after_us", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False, server_default="device"),
    Column("agent", String(63), nullable=False, server_default=""),
    Column("holder", Text, nullable=False, server_default=""),
    Column("profile", String(63), nullable=False, server_default=""),
    Column("issuer_sha256", LargeBinary, nullable=False),
    Column("spki_sha256", LargeBinary, nullable=False, index=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("ends_us", BigInteger, index=True),
    Column("revoked_us", BigInteger, index=True),
    Column("revoked_code", Integer, nullable=False, server_default="0"),
    Column("revoked_reason", Text, nullable=False, server_default=""),
)

agents: Final = Table(
    "agents",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("agent_class", String(63), nullable=False),
    Column("holder", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("capabilities", Text, nullable=False),
    Column("locator", Text, nullable=False),
    Column("validation_methods", Text, nullable=False),
    Column("certificate_sha256", LargeBinary, nullable=False),
    Column("certificate_not_after_us", BigInteger, nullable=False),
    Column("enrolled_us", BigInteger, nullable=False),
    Column("decommission_us", BigInteger, index=True),
    Column("revoked_us", BigInteger),
    Column("revoked_reason", Text, nullable=False, server_default=""),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("decommission_told", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("device_id", "name"),
)

identity_claims: Final = Table(
    "identity_claims",
    metadata,
    Column("kind", String(32), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, index=True),
    PrimaryKeyConstraint("kind", "value"),
)

issuance_log: Final = Table(
    "issuance_log",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("entry", Text, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
)

spent_activations: Final = Table(
    "spent_activations",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("ends_us", BigInteger, nullable=False, index=True),
)

published_lists: Final = Table(
    "published_lists",
    metadata,
    Column("issuer_sha256", LargeBinary, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("this_update_us", BigInteger, nullable=False),
    Column("next_update_us", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

alarms: Final = Table(
    "alarms",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("code", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seen_us", BigInteger),
    sqlite_autoincrement=True,
)

results: Final = Table(
    "results",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("vector", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("steps", Text, nullable=False),
    Column("allow", Boolean, nullable=False),
    Column("decision_reasons", Text, nullable=False),
    Column("policy_id", Text, nullable=False),
    Column("reference_set", Text, nullable=False),
    Column("evidence_sha256", LargeBinary, nullable=False),
    Column("ear", Text, nullable=False),
    PrimaryKeyConstraint("device_id", "seq"),
    Index("ix_results_at_us", "at_us"),
)

evidence: Final = Table(
    "evidence",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("message", LargeBinary, nullable=False),
    Column("progress", Text),
    Column("log_sha256", LargeBinary),
)

firmware_logs: Final = Table(
    "firmware_logs",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("first_seen_us", BigInteger, nullable=False),
)

reference_sets: Final = Table(
    "reference_sets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

reference_documents: Final = Table(
    "reference_documents",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

revisions: Final = Table(
    "revisions",
    metadata,
    Column("subject", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("device_id", String(63), nullable=False),
    Column("seq", BigInteger, nullable=False),
    ForeignKeyConstraint(["device_id", "seq"], ["results.device_id", "results.seq"]),
    sqlite_autoincrement=True,
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
