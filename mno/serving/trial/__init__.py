"""Trying the model by hand: the page at `/` of the service, and what it asks for at `/try/…`.

`problem` says what can be drawn and solved, `samples` what is stored; `worker` is the process in
which a scenario draws and solves, `solver` its keeper with a time limit; `shown` puts fields into
the form that the page draws, `page` makes the page, and `routes` has the addresses.
"""
