"""What the rooms and the universal names are made of: locks, queues, pipes, values, workers."""
