"""Trying the model by hand: the page at `/` of the service, and what it asks for at `/try/…`.

`problem` has the process in which a scenario draws and solves, `page` the page and the form of the
fields that it draws, and `routes` the addresses.
"""
