"""What `scripts/network_pages.py` and `scripts/notebooks.py` make pages of.

The texts are in `networks/` and `notebooks/`, in English and Korean beside each other.
"""
