"""The stage `source`: what lies outside of the graph, looked at each time."""
