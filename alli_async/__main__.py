"""`python -m alli_async` is the `alli-async` command."""

from .cli import main

if __name__ == "__main__":
    main()
