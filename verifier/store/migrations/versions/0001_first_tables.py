"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _devices()
    _results()
    _settings_tables()


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(63), nullable=False),
        sa.Column("ak_public", sa.LargeBinary, nullable=False),
        sa.Column("ak_name", sa.LargeBinary, nullable=False),
        sa.Column("hardware_serial", sa.Text, nullable=False),
        sa.Column("idevid_sha256", sa.LargeBinary, nullable=False),
        sa.Column("anchor_sha256", sa.LargeBinary, nullable=False),
        sa.Column("endorsed_from_us", sa.BigInteger, nullable=False),
        sa.Column("endorsed_until_us", sa.BigInteger, nullable=False),
        sa.Column("device_class", sa.String(63), nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary, nullable=False),
        sa.Column("certificate_not_after_us", sa.BigInteger, nullable=False),
        sa.Column("enrolled_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_us", sa.BigInteger),
        sa.Column("revoked_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("last_clock_ms", sa.BigInteger),
        sa.Column("last_reset_count", sa.BigInteger),
        sa.Column("last_restart_count", sa.BigInteger),
        sa.Column("last_safe", sa.Boolean),
        sa.Column("last_nonce_us", sa.BigInteger),
        sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("device_id", name="pk_devices"),
    )
    op.create_table(
        "certificates",
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("device_id", sa.String(63), nullable=False),
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("not_before_us", sa.BigInteger, nullable=False),
        sa.Column("not_after_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_us", sa.BigInteger),
        sa.Column("revoked_reason", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("sha256", name="pk_certificates"),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name="fk_certificates_device_id"
        ),
    )
    op.create_index("ix_certificates_device_id", "certificates", ["device_id"])


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("device_id", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("vector", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("allow", sa.Boolean, nullable=False),
        sa.Column("decision_reasons", sa.Text, nullable=False),
        sa.Column("policy_id", sa.Text, nullable=False),
        sa.Column("reference_set", sa.Text, nullable=False),
        sa.Column("evidence_sha256", sa.LargeBinary, nullable=False),
        sa.Column("ear", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("device_id", "seq", name="pk_results"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_results_device_id"),
    )
    op.create_index("ix_results_at_us", "results", ["at_us"])
    op.create_table(
        "evidence",
        sa.Column("device_id", sa.String(63), nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("device_id", name="pk_evidence"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_evidence_device_id"),
    )
    op.create_table(
        "firmware_logs",
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("first_seen_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_firmware_logs"),
    )
    op.create_table(
        "outbox",
        sa.Column("number", ROW_NUMBER, nullable=False, autoincrement=True),
        sa.Column("device_id", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_outbox"),
        sa.ForeignKeyConstraint(
            ["device_id", "seq"],
            ["results.device_id", "results.seq"],
            name="fk_outbox_device_id_seq",
        ),
        sqlite_autoincrement=True,
    )


def _settings_tables() -> None:
    op.create_table(
        "reference_sets",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_reference_sets"),
    )
    op.create_table(
        "revisions",
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_revisions"),
    )
    op.create_table(
        "tokens",
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_tokens"),
        sa.UniqueConstraint("name", name="uq_tokens_name"),
    )


def downgrade() -> None:
    """Drop all tables."""
    for table in (
        "tokens", "revisions", "reference_sets", "outbox", "firmware_logs", "evidence", "results",
        "certificates", "devices",
    ):  # fmt: skip
        op.drop_table(table)
