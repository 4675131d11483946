"""Issuance: proofs in, certificates out (the ACA of the agent security draft); pure.

Private keys, time and serial numbers are arguments; what is signed here was judged here.
"""
