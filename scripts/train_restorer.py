"""Train a restorer; a thin entry point for ``accelerate launch`` (the same as ``udc-robust train restorer``).

Example: accelerate launch --num_processes 4 scripts/train_restorer.py nafnet_mini batch_size=32
"""

import sys

from udc_robust.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["train", "restorer"]
    main()
