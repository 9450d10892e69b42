from interp_by_construction.cli import main

main()
