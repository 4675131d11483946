"""What revocation lists call the certificates that endorsed each device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; devices that are there get theirs when they enrol anew."""
    op.add_column("devices", sa.Column("certificate_ids", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("devices") as batch:
        batch.drop_column("certificate_ids")
