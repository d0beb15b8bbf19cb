"""The report, measured again: the experiments, their runs, and the page that sets printed beside measured.

ledger         the report's figures, as printed
experiments    the report as a table of runs; profiles says how large they are
work           how many images each experiment sees; pace says how long it takes, and the rest of it
runner         runs one experiment; reproduce runs all that are missing
compare        printed beside measured
plots, page    the page
carry          a reproduction's folder, packed for another machine
"""
