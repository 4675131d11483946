"""Policy engines: adapters that evaluate a decision policy in this process."""
