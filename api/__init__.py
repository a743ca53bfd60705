"""The front door: HTTP in, HTTP out. It decides nothing and knows no torch."""

VERSION = "0.1.0"
