"""Endorsement: whose word about devices is believed, as a value; chains judged at a moment."""
