"""Measurements: ``make bench`` prints a JSON object per line; see docs/performance.md."""
