"""One run: trained, recorded, found, resumed, repeated, listed. Only train.py knows the Trainer."""
