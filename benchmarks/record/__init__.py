"""`python -m benchmarks.record` writes measured numbers to docs/results.json and renders docs/results.md."""
