"""Files that others have made become datasets; what was made here goes to other programs."""

KINDS = ("pdebench", "the-well", "fno-mat", "neuralop", "npz", "zarr", "netcdf", "csv")
"""Kinds of files that are read; each has a module of its name here (`importer.importer_class`)."""
