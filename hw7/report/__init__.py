"""The report, measured again: the experiments, their runs, and the page that sets printed beside measured.

ledger         the report's figures, as printed
experiments    the report as a table of runs; profiles says how large they are
runner         runs one experiment; reproduce runs all that are missing, and pace says how long the rest takes
compare        printed beside measured
plots, page    the page
"""
