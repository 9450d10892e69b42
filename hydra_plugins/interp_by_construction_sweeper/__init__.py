"""Where Hydra looks for plugins; the sweeper itself is in `interp_by_construction.sweeps`."""

from interp_by_construction.sweeps.sweeper import GridSweeper as _GridSweeper


class GridSweeper(_GridSweeper):
    """Hydra takes sweepers from this package only."""
