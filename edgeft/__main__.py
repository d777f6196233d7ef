"""`python -m edgeft`, which torchrun and accelerate start."""

from edgeft.cli import main

if __name__ == "__main__":
    main()
