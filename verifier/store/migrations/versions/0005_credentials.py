"""Agents, claims, the issuance log, revocation lists, alarms; more about each certificate.

Certificates of before enter the log in the order in which they began, so that every certificate
has its entry from the first day of the log.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from verifier.issuance.log import ISSUED, ORIGIN, canonical, entry_digest

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NEW = ("agents", "identity_claims", "issuance_log", "published_lists", "alarms")


def _added() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("kind", sa.String(16), nullable=False, server_default="device"),
        sa.Column("agent", sa.String(63), nullable=False, server_default=""),
        sa.Column("holder", sa.Text, nullable=False, server_default=""),
        sa.Column("profile", sa.String(63), nullable=False, server_default=""),
        sa.Column("issuer_sha256", sa.LargeBinary),
        sa.Column("spki_sha256", sa.LargeBinary),
        sa.Column("number", sa.BigInteger),
        sa.Column("ends_us", sa.BigInteger),
        sa.Column("revoked_code", sa.Integer, nullable=False, server_default="0"),
    )


_FILLED = ("issuer_sha256", "spki_sha256", "number")
_INDEXED = ("spki_sha256", "ends_us", "revoked_us")


def upgrade() -> None:
    """Make the tables, add the columns, enter the certificates of before into the log."""
    _create_tables()
    _create_records()
    op.execute("INSERT INTO revisions (subject, number) VALUES ('issuance-log', 0)")
    with op.batch_alter_table("certificates") as batch:
        for column in _added():
            batch.add_column(column)
    _fill()
    with op.batch_alter_table("certificates") as batch:
        for name in _FILLED:
            kind = sa.BigInteger() if name == "number" else sa.LargeBinary()
            batch.alter_column(name, existing_type=kind, nullable=False)
        batch.create_unique_constraint("uq_certificates_serial", ["serial"])
        batch.create_unique_constraint("uq_certificates_number", ["number"])
    for name in _INDEXED:
        op.create_index(f"ix_certificates_{name}", "certificates", [name])


def downgrade() -> None:
    """Forget the log and everything else that came with it."""
    op.execute("DELETE FROM revisions WHERE subject IN ('issuance-log', 'revocation')")
    for name in _INDEXED:
        op.drop_index(f"ix_certificates_{name}", "certificates")
    with op.batch_alter_table("certificates") as batch:
        batch.drop_constraint("uq_certificates_number", type_="unique")
        batch.drop_constraint("uq_certificates_serial", type_="unique")
        for column in _added():
            batch.drop_column(column.name)
    for name in reversed(_NEW):
        op.drop_table(name)


def _create_tables() -> None:
    device = sa.ForeignKey("devices.device_id", name="fk_agents_device_id_devices")
    op.create_table(
        "agents",
        sa.Column("device_id", sa.String(63), device, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("agent_class", sa.String(63), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("capabilities", sa.Text, nullable=False),
        sa.Column("locator", sa.Text, nullable=False),
        sa.Column("validation_methods", sa.Text, nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary, nullable=False),
        sa.Column("certificate_not_after_us", sa.BigInteger, nullable=False),
        sa.Column("enrolled_us", sa.BigInteger, nullable=False),
        sa.Column("decommission_us", sa.BigInteger),
        sa.Column("revoked_us", sa.BigInteger),
        sa.Column("revoked_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("device_id", "name", name="pk_agents"),
    )
    op.create_index("ix_agents_decommission_us", "agents", ["decommission_us"])
    device = sa.ForeignKey("devices.device_id", name="fk_identity_claims_device_id_devices")
    op.create_table(
        "identity_claims",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("device_id", sa.String(63), device, nullable=False),
        sa.PrimaryKeyConstraint("kind", "value", name="pk_identity_claims"),
    )
    op.create_index("ix_identity_claims_device_id", "identity_claims", ["device_id"])


def _create_records() -> None:
    op.create_table(
        "issuance_log",
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("previous", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_issuance_log"),
    )
    op.create_table(
        "published_lists",
        sa.Column("issuer_sha256", sa.LargeBinary, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("this_update_us", sa.BigInteger, nullable=False),
        sa.Column("next_update_us", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("issuer_sha256", name="pk_published_lists"),
    )
    row_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "alarms",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("seen_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("number", name="pk_alarms"),
        sqlite_autoincrement=True,
    )


def _fill() -> None:
    """Enter each certificate into the log; whose DER cannot be read keeps empty digests."""
    connection = op.get_bind()
    table = sa.table(
        "certificates",
        *(sa.column(name) for name in ("sha256", "serial", "der", "not_before_us", "holder")),
        *(sa.column(name) for name in _FILLED),
    )
    log = sa.table(
        "issuance_log",
        *(sa.column(name) for name in ("number", "at_us", "kind", "entry", "previous", "sha256")),
    )
    head = ORIGIN
    rows = connection.execute(
        sa.select(table).order_by(table.c.not_before_us, table.c.sha256)
    ).fetchall()
    for number, row in enumerate(rows, start=1):
        holder, spki = _read(bytes(row.der))
        text = canonical(
            {
                "certificate": bytes(row.sha256).hex(),
                "serial": row.serial,
                "holder": holder,
                "profile": "",
                "issuer": "",
                "key": spki.hex(),
                "ear": "",
                "evidence": "",
                "owner": "",
                "proofs": [],
            }
        )
        digest = entry_digest(head, number, row.not_before_us, ISSUED, text)
        connection.execute(
            sa.insert(log).values(
                number=number,
                at_us=row.not_before_us,
                kind=ISSUED,
                entry=text,
                previous=head,
                sha256=digest,
            )
        )
        connection.execute(
            sa.update(table)
            .where(table.c.sha256 == row.sha256)
            .values(number=number, holder=holder, issuer_sha256=b"", spki_sha256=spki)
        )
        head = digest


def _read(der: bytes) -> tuple[str, bytes]:
    """Return the URI in a certificate and the SHA-256 of its key."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return "", b""
    return (uris[0] if uris else ""), hashlib.sha256(key).digest()
