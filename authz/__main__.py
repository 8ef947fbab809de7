"""`python -m authz` is `deputy`."""

from authz.cli import main

if __name__ == "__main__":
    main()
