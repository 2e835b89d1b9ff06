"""`python -m spherical_motion` is `smd`."""

from spherical_motion.cli import main

if __name__ == "__main__":
    main()
