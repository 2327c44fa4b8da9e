"""``python -m lossproof``."""

from lossproof.cli import program

if __name__ == "__main__":
    program()
