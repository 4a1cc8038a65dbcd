"""What every room stands on: errors, configurations, fields and axes, grids and points, files."""
