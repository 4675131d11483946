"""Talking to the verifier: HTTPS client and the schedule of retries."""
