"""The HTTPS door: routes, who may use them, caps, problem details."""
