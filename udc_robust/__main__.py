"""``python -m udc_robust``, and the program ``udc-robust``."""

from udc_robust.stopping import stoppable


def program() -> None:
    """The command line, which can be stopped from its first moment."""
    with stoppable():
        from udc_robust.cli import main

        main()


if __name__ == "__main__":
    program()
