"""An HTTP service around a registered model, by MLflow's own protocol.

`protocol` says how arrays come and go, `batcher` has all cores answer those who wait, `model` holds
the model, takes the next one that the registry names and says how far an answer may be trusted,
`counts` keeps what was seen, and `app` puts a web application around them. With the page at `/` the
model is tried by hand: `trial` has its addresses, `trial_page` the page, and `problem` the process
in which a scenario draws and solves.
"""
