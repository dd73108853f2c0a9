"""The main job of the product on real input, end to end: what `tensorguard demo` runs."""
