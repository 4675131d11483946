"""Credential activations that were tried: each has one try, whichever replica it comes to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "spent_activations",
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("ends_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_spent_activations"),
    )
    op.create_index("ix_spent_activations_ends_us", "spent_activations", ["ends_us"])


def downgrade() -> None:
    """Forget what was tried; what still lives could be tried once more."""
    op.drop_table("spent_activations")
