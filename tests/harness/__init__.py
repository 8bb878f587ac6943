"""What the harness's scripts share. Standard library only."""
