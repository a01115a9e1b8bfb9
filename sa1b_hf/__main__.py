"""`python -m sa1b_hf`, for where the script is not on the path."""

from .cli import main

main(prog_name="sa1b")
