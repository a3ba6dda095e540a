"""Policy optimisation and meta-reinforcement learning on JAX."""
