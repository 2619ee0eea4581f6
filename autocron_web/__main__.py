"""`python -m autocron_web DATABASE …`: the command line, where `autocron` is not on the path."""

from .cli import main

if __name__ == "__main__":
    main()
