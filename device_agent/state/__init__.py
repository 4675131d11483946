"""What the daemon must remember across restarts."""
