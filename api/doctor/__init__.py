"""What `tensorguard doctor` looks at: one room a subject, each a list of findings. Nothing is changed by looking."""
