"""One module per step of the loop: each has a `run(...)` that reads directories and writes one."""
