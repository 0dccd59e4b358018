"""What several benchmarks share: pictures, networks, measures, tables."""
