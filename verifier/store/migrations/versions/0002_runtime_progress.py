"""How far IMA lists are proven, and were when the last evidence came; the log that that names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; the devices that are there are asked for their lists anew."""
    for table in ("devices", "evidence"):
        op.add_column(table, sa.Column("progress", sa.Text, nullable=True))
    op.add_column("evidence", sa.Column("log_sha256", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    """Forget it."""
    for table in ("devices", "evidence"):
        with op.batch_alter_table(table) as batch:
            batch.drop_column("progress")
    with op.batch_alter_table("evidence") as batch:
        batch.drop_column("log_sha256")
