"""The grids that workers and stores are tried with."""

from ..grid.conftest import experiment_file, place, toy_data, write_experiment  # noqa: F401
