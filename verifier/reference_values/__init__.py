"""Reference values: what known-good devices measure, as sets that a quote is held against."""
