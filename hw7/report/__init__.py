"""The report, measured again: the experiments, their runs, and the page that sets printed beside measured.

ledger         the report's figures, as printed
experiments    the report as a table of runs; profiles says how large they are
work           how many images each experiment sees; pace says how long it takes, and the rest of it
runner         runs one experiment; reproduce runs all that are missing
counting       what the structure of a network gives; compare sets printed beside measured
findings       the report's conclusions, and the verdict of one run on them
settings       how everything was trained, printed and used; structures: the networks, layer by layer
page           the page; questions are its sections, of results, made of blocks (text, tables, plots, formulas)
carry          a reproduction's folder, packed for another machine
"""
