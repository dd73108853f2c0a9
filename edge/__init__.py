"""The device: it verifies packages, opens them in memory only, and reports what it did."""
