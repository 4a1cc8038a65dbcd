"""What the line makes, before and after a change that must not alter results.

    python -m tests.golden make FOLDER --out record.json   # what a checkout makes
    python -m tests.golden compare A.json B.json           # what differs between two records
    python -m tests.golden check f4a8d78                   # the working tree against a commit

A record holds what small runs of `mno` made of a checkout: the preset `quick`, every other scenario
on a small grid, an imported dataset, answers of `mno audit`, the report in both languages and the
help of every command. FOLDER may be a checkout of any commit, also of one without this package:
its files are copied into a repository of their own, and its code is driven only from outside.

A record maps names, as `quick/reports/metrics.json`, to texts, or to `md5:…` of files that are no
texts. What may differ between two runs of the same code is masked (`compare.py`, with reasons). Two
records are comparable if they were made on the same machine with the same packages.

`compare` prints a unified diff of each text that differs, and names what else does. It ends with 0
if all that differs is listed in `intended.toml`, and with 1 otherwise. Each entry there is

    [[change]]
    key = "help/mno study*"      # names in the record, as a shell's pattern
    why = "mno study show is gone"

`check` keeps the record of a commit in `build/golden/`, so that it is made once. A record of all
runs takes twenty minutes, longer where others are at work; `--only quick --only help` takes two.
"""
