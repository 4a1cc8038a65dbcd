"""What is in a dataset: measured shard by shard, drawn, and written as a page.

`inspect_store` works on any released dataset, without a workspace:

    from pathlib import Path
    from mno.inspection import inspect_store, write_inspection

    inspection = inspect_store(Path("data"))
    print(inspection.findings)
    write_inspection(inspection, Path("reports/inspection"))
"""
