"""What is in a dataset: measured shard by shard, drawn, and written as a page.

`inspect_store` works on any released dataset, without a workspace:

    from pathlib import Path
    from mno.report.inspection.page import write_inspection
    from mno.report.inspection.survey import inspect_store

    inspection = inspect_store(Path("data"))
    print(inspection.findings)
    write_inspection(inspection, Path("reports/inspection"))
"""
