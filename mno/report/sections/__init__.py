"""The sections of the report, each a function of the results and its words beside its template."""
