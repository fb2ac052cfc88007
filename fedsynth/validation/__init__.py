"""Great Expectations over a set of images, real or synthetic, and the verdict that leaves a hospital."""
