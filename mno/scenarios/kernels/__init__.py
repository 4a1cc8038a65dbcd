"""What scenarios compute with: compiled inner loops of solvers, random fields, second statements.

`mno.core.compiled` keeps compiled kernels between processes.
"""
