"""When the line runs: Prefect flows, and the `mno` command that starts them."""
