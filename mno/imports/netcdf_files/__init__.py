"""NetCDF files, classic and on HDF5."""
