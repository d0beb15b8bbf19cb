"""Intake: whatever was handed in, read with care, from a folder of exports to bytes in memory.

layouts       whose submission is where; platforms reads the names that Moodle and others give
roster        the ids and names of a course
entries       files of folders and zips, counted and bounded before they are read
text          names of any characters, made printable
submission    one student's entries made into a Submission
similar       pairs of submissions whose code is alike, compared as the tokens of lexing
"""
