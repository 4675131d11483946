"""Policies that come with the verifier: appraisal policies (TOML), the decision policy (Rego).

Read them as package resources; copy one and change it to make your own.
"""
