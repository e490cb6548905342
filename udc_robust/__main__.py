"""``python -m udc_robust``."""

from udc_robust.cli import main

if __name__ == "__main__":
    main()
