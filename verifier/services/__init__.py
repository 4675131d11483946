"""Use cases: plain synchronous functions and classes over ports; one file each."""
