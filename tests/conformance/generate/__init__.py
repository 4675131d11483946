"""Makes the files of cases: the same bytes every time, from fixed labels and fixed moments."""
