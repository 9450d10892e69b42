"""`python -m interp_by_construction` is `ibc`."""

from interp_by_construction.cli import main

main()
