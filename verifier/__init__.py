"""The verifier: appraises evidence, issues device certificates, feeds the PDP."""
