"""Training of generators and encoders. Nothing here is imported by serving code."""
