"""Makes ``cases.json``: the same bytes every time, from fixed labels and fixed moments."""
