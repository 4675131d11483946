"""How far each device's IMA list is proven."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the devices that are there are asked for their lists anew."""
    op.add_column("devices", sa.Column("progress", sa.Text, nullable=True))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("devices") as batch:
        batch.drop_column("progress")
