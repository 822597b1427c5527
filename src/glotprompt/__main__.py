"""`python -m glotprompt`, for launchers such as torchrun."""

import sys

from glotprompt.cli import main

sys.exit(main())
