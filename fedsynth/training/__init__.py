"""How a site trains: the loop in which families, algorithms and privacy meet, what it keeps, and how its updates are
coded.
"""
