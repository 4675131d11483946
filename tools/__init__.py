"""Checks of house rules that no ready-made tool makes; run one as ``python -m tools.NAME``."""
