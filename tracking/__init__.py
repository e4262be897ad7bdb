"""What becomes of measurements: gate, pages and history; see ``docs/benchmarks.md``."""
