"""The model that is made interpretable: loading, node access, and what is frozen when."""
