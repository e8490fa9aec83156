"""What Snakefile and rules ask: settings, the plan of a sweep, code digests, leftovers. May import core to backends."""
