import sys

from alloyscope.cli import main

sys.exit(main())
