"""Appraisal: evidence in, attestation result out; pure, one file for each numbered step.

Rules: no store, clock, file, socket, randomness or log in here; whatever the judgement needs is an
argument. A step takes the type that the step before it proved and raises when a proof fails;
:mod:`verifier.appraisal.appraise` records.
"""
