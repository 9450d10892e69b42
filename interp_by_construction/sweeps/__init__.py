"""Many runs with one command: the jobs of a sweep, their states, and how Hydra runs them."""
