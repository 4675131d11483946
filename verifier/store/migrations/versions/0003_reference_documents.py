"""Runtime policies, AIBOMs, providers and signers; several versions of a reference set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the documents' table; name reference sets by name and version."""
    op.create_table(
        "reference_documents",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_reference_documents"),
    )
    _key_reference_sets(["name", "version"])


def downgrade() -> None:
    """Drop the documents' table; keep the newest version of each reference set."""
    op.drop_table("reference_documents")
    op.execute(
        "DELETE FROM reference_sets WHERE EXISTS (SELECT 1 FROM reference_sets AS newer"
        " WHERE newer.name = reference_sets.name AND newer.version > reference_sets.version)"
    )
    _key_reference_sets(["name"])


def _key_reference_sets(columns: list[str]) -> None:
    with op.batch_alter_table("reference_sets") as batch:
        batch.drop_constraint("pk_reference_sets", type_="primary")
        batch.create_primary_key("pk_reference_sets", columns)
