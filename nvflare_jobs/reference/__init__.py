"""The job `reference`: FedAvg of the uses' networks on the sites' real images.

Sites return parameter differences and mean losses.
"""
