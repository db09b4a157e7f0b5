"""What the library costs, and what others cost at the same job: `python -m benchmarks --help`."""
