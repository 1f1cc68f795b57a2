"""The weights ledger: every pretrained network, its pin and licence, and how its file is found or fetched."""
