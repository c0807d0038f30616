"""The benchmark, `scripts/bench`: servers under the same load, with every answer checked."""
