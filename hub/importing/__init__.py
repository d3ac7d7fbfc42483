"""`omniline import`: old conversations, read from files or from an account's own past.

    found.py       what a source finds, and what can be wrong with it
    rows.py        a row with named fields -> a message
    files.py       reading a file on, page by page, from where it was left
    json_lines.py  csv_rows.py  mbox_file.py  vendor_history.py      the sources
    accounts.py    an account's connector, outside a running hub
    taking.py      source -> known already? -> inbox, with its counts; resumed, paused, dry
    undoing.py     the job between two rounds of taking an import back
    command.py     the command line

What imported entries are, and how an import is taken back, is decided by the router's planners:
hub/planning/history.py and hub/planning/taking_back.py.
"""
