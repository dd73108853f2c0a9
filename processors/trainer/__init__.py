"""The trainer: a process of its own that executes the operations of runs under a lease, with torch and peft."""
