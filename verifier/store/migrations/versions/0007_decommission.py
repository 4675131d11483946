"""When a device is to be decommissioned, and whether an operator said when it or an agent is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PLANNED = sa.text("decommission_us IS NOT NULL")


def upgrade() -> None:
    """Add the columns; devices that are there get a date from their class when they enrol anew."""
    for table in ("devices", "agents"):
        op.add_column(
            table,
            sa.Column("decommission_told", sa.Boolean, nullable=False, server_default=sa.false()),
        )
    op.add_column("devices", sa.Column("decommission_us", sa.BigInteger, nullable=True))
    op.create_index(
        "ix_devices_decommission_us",
        "devices",
        ["decommission_us"],
        sqlite_where=_PLANNED,
        postgresql_where=_PLANNED,
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_index("ix_devices_decommission_us", "devices")
    # In place, also on SQLite: a copied table would have to be dropped, and rows point to it.
    op.drop_column("devices", "decommission_us")
    op.drop_column("devices", "decommission_told")
    op.drop_column("agents", "decommission_told")
