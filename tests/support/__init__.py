"""What several tests need: small batches, dense linear algebra, and probes whose answers are known."""
