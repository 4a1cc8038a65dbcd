"""Generation of datasets: what is made (plan), shard by shard (work), here or on Dask."""
