"""`python -m hub.config` prints the reference page of the settings."""

import sys

from .describe import settings_page

if __name__ == "__main__":
    sys.stdout.write(settings_page())
