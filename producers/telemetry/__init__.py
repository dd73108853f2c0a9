"""What a process tells of itself beside its logs: spans of a trace."""
