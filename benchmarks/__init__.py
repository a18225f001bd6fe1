"""What Slipway costs, as ratios from one run: `make bench`. A run's table: docs/benchmarks.md."""
