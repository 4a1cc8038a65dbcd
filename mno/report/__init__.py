"""The report and the page of an inspection: each one HTML file that is complete in itself."""
