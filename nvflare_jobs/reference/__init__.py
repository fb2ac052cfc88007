"""The job `reference`: the uses' networks by FedAvg over the sites' real images;
differences and mean losses come back.
"""
