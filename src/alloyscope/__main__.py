import os
import sys

from alloyscope.cli import main

code = main()
if code:  # what libraries say while the process is torn down must not follow the error
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
sys.exit(code)
